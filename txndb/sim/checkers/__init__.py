"""Checkers: a history in, what is wrong with it out. They know nothing of the database.

Each is tested against histories with known verdicts and against hand-made wrong ones. `linearizability` is the search,
`register`, `bank` and `cycle` are the models.
"""
