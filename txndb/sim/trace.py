"""The trace of a run: a running hash over everything that happened, and counts of it by kind.

Two runs of one seed must give the same hash, in any process. Hashed are every frame at its delivery (virtual time,
sender, receiver, bytes), every fault, every operation's outcome, and the number of callbacks run at every instant.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from collections import Counter, deque
from typing import Final

_PACK: Final = struct.Struct("<QHH").pack
_INSTANTS_BUFFERED: Final = 8192
_STORY_LINES_MAX: Final = 400


class Trace:
    """Collects one run. `echo` also keeps every line for printing."""

    def __init__(self, *, echo: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        self.story: deque[str] = deque(maxlen=None if echo else _STORY_LINES_MAX)
        self._hash = hashlib.blake2b(digest_size=16)
        self._instants = array("Q")

    def message(self, now_us: int, sender: int, receiver: int, payload: bytes) -> None:
        """One frame arrived."""
        self._hash.update(_PACK(now_us, sender & 0xFFFF, receiver & 0xFFFF))
        self._hash.update(payload)

    def note(self, now_us: int, text: str) -> None:
        """One line of the story: a fault, an operation, a node's own event."""
        line = f"{now_us / 1e6:11.6f} {text}"
        self._hash.update(line.encode())
        self.story.append(line)

    def instant(self, now_us: int, callbacks_run: int) -> None:
        """Time is about to move on from `now_us`."""
        instants = self._instants
        instants.append(now_us)
        instants.append(callbacks_run)
        if len(instants) >= _INSTANTS_BUFFERED:
            self._fold()

    def digest(self) -> str:
        """The hash of everything so far, in hexadecimal."""
        self._fold()
        return self._hash.hexdigest()

    def _fold(self) -> None:
        self._hash.update(self._instants.tobytes())
        self._instants = array("Q")
