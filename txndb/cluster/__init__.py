"""The node: replicas, routing, transactions and sessions composed, driven by a body."""
