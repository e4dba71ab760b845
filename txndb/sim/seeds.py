"""Chance for a simulation: every generator is derived from the one seed by name.

A stream per purpose ("network", "clock/2", …) keeps runs stable: drawing one more number in one place does not shift
every other place. The derivation goes through BLAKE2b, never through `hash()`, which differs between processes.
"""

from __future__ import annotations

import hashlib
from random import Random


def derive(seed: int, *names: str | int) -> Random:
    """The generator for one purpose of one seed; the same in every process."""
    text = "/".join(str(part) for part in (seed, *names))
    return Random(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big"))
