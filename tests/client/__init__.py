"""Tests of the PEP 249 driver."""
