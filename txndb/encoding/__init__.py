"""Order-preserving keys and row values."""
