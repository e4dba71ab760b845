"""`txndb jepsen`: the simulator's workloads and checkers against real node processes, under faults that are real.

`client` speaks to nodes over pgwire, `fleet` starts and hurts their processes, `links` and `namespaces` break the
network between them, `nemesis` decides what is hurt when, `run` leads from the start to the verdict, `report` and
`plot` say what happened. Nothing in a node knows of it.
"""
