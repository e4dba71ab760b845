"""Replay files: everything that makes one failing run, in one JSON file.

A seed means something only with the code that drew its options; a replay file holds the drawn options themselves and
the explicit schedule of faults, so it keeps its meaning while drawing changes, and may have been made smaller
(`txndb.sim.shrink`) or be edited by hand: remove a line of the schedule and see whether the run still fails.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from txndb.errors import ProtocolError
from txndb.sim.options import WorldOptions

FORMAT: Final = 1


class Replay(msgspec.Struct, frozen=True):
    """The file. `trace_hash` is what the run gave when it was written, at `commit`."""

    format: int
    commit: str
    parts: str
    violation: str
    trace_hash: str
    options: WorldOptions


def save(replay: Replay, directory: Path) -> Path:
    """Write a replay file into a directory, which is made if need be; its path. Raises `OSError`."""
    directory.mkdir(parents=True, exist_ok=True)
    options = replay.options
    path = directory / f"{options.workload}-{options.seed}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(replay), indent=1) + b"\n")
    return path


def load(path: Path) -> Replay:
    """Read a replay file. Raises `OSError`, and `ProtocolError` for a file that is none."""
    try:
        replay = msgspec.json.decode(path.read_bytes(), type=Replay)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"{path} is not a replay file: {error}") from error
    if replay.format != FORMAT:
        raise ProtocolError(f"{path} has format {replay.format}, this program reads format {FORMAT}")
    return replay
