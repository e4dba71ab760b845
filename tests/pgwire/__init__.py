"""Tests of the wire codec and of the PostgreSQL front door."""
