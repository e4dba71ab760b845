"""txndb: a distributed transactional SQL database in typed Python."""

__version__ = "0.1.0"
