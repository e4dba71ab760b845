"""Rewrite rules over logical plans: one rule, one function, one module. `RULES` is the order they run in."""

from txndb.sql.plan.rules.fold_constants import fold_constants
from txndb.sql.plan.rules.prune_columns import prune_columns
from txndb.sql.plan.rules.push_filters import push_filters
from txndb.sql.plan.rules.simplify_outer_joins import simplify_outer_joins

RULES = (fold_constants, simplify_outer_joins, push_filters, prune_columns)

__all__ = ["RULES"]
