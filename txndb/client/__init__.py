"""The PEP 249 driver."""
