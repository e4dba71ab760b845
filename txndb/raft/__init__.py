"""Consensus: the Raft core as a pure step machine."""
