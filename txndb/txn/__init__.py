"""Transactions: routing, the coordinator, recovery, and the `Txn` API that SQL speaks."""
