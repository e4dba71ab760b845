"""Elle: which isolation level do the results of transactions contradict?

Source: Kingsbury, Alvaro: "Elle: Inferring Isolation Anomalies from Experimental Observations" (VLDB 2020), on the
definitions of Adya, "Weak Consistency" (1999).

    txns       operations of a history -> transactions
    lists      the version order of keys that hold lists (append), and what its reads prove
    registers  the version order of keys that hold one value (rw), as far as it can be known
    orders     process and real-time order, the latter as its transitive reduction
    graph      the dependency graph: strong components, shortest paths, reachability
    cycles     cycles in it, and their names: G0, G1c, G-single, G-nonadjacent, G2, with -process and -realtime
    levels     the lattice of isolation levels and what each anomaly rules out
    explain    an anomaly in words
    judge      all of it: `check_append`, `check_rw`
    plot       cycles as DOT and SVG

What is inferred is proven: an anomaly means that *no* execution at the levels it rules out can have led to the
history. The converse does not hold for every history – registers hide their order, and what nobody read leaves no
trace – so `valid` means "not contradicted".
"""

from txndb.sim.checkers.elle.judge import check_append, check_rw

__all__ = ["check_append", "check_rw"]
