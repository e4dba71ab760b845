"""Tests of the SQL type system."""
