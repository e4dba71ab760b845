"""Tests of the source text itself."""
