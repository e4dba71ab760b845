"""Histories in short: one line per operation, `process type f value`, the value in JSON or left out.

    0 invoke write 1
    0 ok write 1
    1 invoke read
    1 info read

A word `key=…` before the value gives the operation's key, `error` at the end its error.
"""

from __future__ import annotations

import json

from txndb.sim.history import Op


def script(text: str) -> list[Op]:
    """The operations of a script; lines are separated by newlines or semicolons."""
    ops: list[Op] = []
    for line in text.replace(";", "\n").splitlines():
        if line.strip():
            process, kind, f, *rest = line.split(maxsplit=3)
            value = rest[0] if rest else "null"
            key, error = None, None
            if value.startswith("key="):
                name, _, value = value.partition(" ")
                key = json.loads(name.removeprefix("key="))
            if value.endswith("error"):
                value, error = value.removesuffix("error"), "error"
            ops.append(
                Op(len(ops), int(process), kind, f, json.loads(value.strip() or "null"), key, error=error)
            )
    return ops
