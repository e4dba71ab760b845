"""Storage: engines, multi-version reads and writes, and the Raft log files."""
