"""The simulated body: virtual time, faulty network and disks, workloads, checkers."""
