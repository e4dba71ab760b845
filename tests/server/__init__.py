"""Tests of txndb.server."""
