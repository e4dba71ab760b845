"""How hard to fuzz: few examples in the suite, as many as wanted with TXNDB_FUZZ_EXAMPLES (`make fuzz EXAMPLES=N`)."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("TXNDB_FUZZ_EXAMPLES", "0"))


def budget(examples: int) -> settings:
    """Settings of one test; `examples` is what the suite can afford."""
    return settings(
        max_examples=EXAMPLES or examples,
        deadline=None,
        derandomize=not EXAMPLES,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
