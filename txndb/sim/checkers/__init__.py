"""Checkers: a history in, what is wrong with it out. They know nothing of the database.

Each is tested against histories with known verdicts and against hand-made wrong ones. From the bottom up:

    verdict             what all of them answer with
    reader, calls       a file -> operations -> calls, with their keys apart
    linearizability     the two searches; `objects` words their verdicts
    register, kv, mutex, counter, multiregister
                        objects that must be linearizable
    sets, queues, monotonic, uniqueids, sequential, cycle, balances, bank, schema
                        invariants, decided without a search
    elle, longfork, g2, comments
                        orders of transactions
    models              all of them by name
"""
