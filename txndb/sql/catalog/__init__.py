"""The catalogue: descriptors, immutable snapshots of them, their storage, leases and virtual tables."""
