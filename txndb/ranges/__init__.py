"""Ranges: descriptors, replicated commands, lock table and replica."""
