"""Serialization failures on demand: a filter between a PostgreSQL client and its server, bytes in, bytes out.

    client --from_client--> RetryFilter --to_server--> server
    client <--to_client---- RetryFilter <--from_server-- server

An application must cope with 40001 at any statement of a transaction, COMMIT included; real contention shows it a few
of these cases by luck. `FailurePlan.fail(count, at)` makes the next `count` transaction blocks fail at their statement
number `at`, as the server would have failed them: nothing of the transaction is kept, whatever follows is answered
25P02 until ROLLBACK, and ROLLBACK TO SAVEPOINT does not help (rule K7).

Invariants
1. What is answered and what happened agree: the block that was told 40001 is rolled back at the server.
2. Answers keep the order of the questions: what the filter says itself waits until the server has answered what was
   sent before.
3. Before the first ReadyForQuery, and while no block is to fail, everything passes unchanged.

Limits: statements outside of blocks and COPY are never failed; several statements in one simple query count as one.
Source of the message formats: PostgreSQL 15 documentation, chapter 55.7. Driven by `world` and by `proxy`.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import Final

import msgspec

from txndb.pgwire import backend
from txndb.pgwire.framing import message

_LENGTH: Final = struct.Struct("!I")
_READY: Final = ord("Z")
_RETRY_FIELDS: Final = (
    ("S", "ERROR"),
    ("V", "ERROR"),
    ("C", "40001"),
    ("M", "could not serialize access: a failure on demand"),
    ("D", "Reason: the test asked for it."),
    ("H", "Replay the whole transaction."),
)
_FAILED_FIELDS: Final = (
    ("S", "ERROR"),
    ("V", "ERROR"),
    ("C", "25P02"),
    ("M", "current transaction is aborted, commands ignored until end of transaction block"),
)
_REFUSED_TLS: Final = (b"N", b"NN")
_ENDS: Final = ("COMMIT", "END", "ROLLBACK", "ABORT")


class FailurePlan(msgspec.Struct):
    """What is still to fail; shared by all connections of a cluster."""

    count: int = 0
    at: int = 1
    fired: int = 0
    """How many blocks were failed since."""

    def fail(self, count: int, at: int = 1) -> None:
        """The next `count` blocks fail at their statement number `at` (1 is the first after BEGIN; COMMIT counts)."""
        if count < 0 or at < 1:
            raise ValueError("count is at least 0, at is at least 1")
        self.count, self.at, self.fired = count, at, 0

    def take(self, statement: int) -> bool:
        """Whether this statement of a block fails."""
        if not self.count or statement != self.at:
            return False
        self.count -= 1
        self.fired += 1
        return True


class _Answer(msgspec.Struct):
    """One ReadyForQuery to come. `ready`: the filter's own answer. `before` goes before the server's, whose status is
    replaced where `status` says so; `silent` swallows the server's answer."""

    ready: bytes = b""
    before: bytes = b""
    status: bytes = b""
    silent: bool = False


class _Messages:
    """Cuts a stream into (type, whole message)."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        buffer = self._buffer
        buffer += data
        found = []
        at = 0
        while len(buffer) - at >= 5:
            end = at + 1 + _LENGTH.unpack_from(buffer, at + 1)[0]
            if len(buffer) < end:
                break
            found.append((buffer[at], bytes(buffer[at:end])))
            at = end
        del buffer[:at]
        return found


class RetryFilter:
    """One conversation."""

    def __init__(self, plan: FailurePlan) -> None:
        self._plan = plan
        self._started = False
        self._client = _Messages()
        self._server = _Messages()
        self._statements: dict[bytes, str] = {}
        self._portals: dict[bytes, str] = {}
        self._in_block = False
        self._failed = False
        self._count = 0
        self._skipping = False
        """Within a batch whose Execute was failed: everything up to its Sync is left out."""
        self._own: list[bytes] = []
        """What the filter answers to the batch that is coming in, while the block is failed."""
        self._ending = False
        self._answers: deque[_Answer] = deque()

    # --- the client's side

    def from_client(self, data: bytes) -> tuple[bytes, bytes]:
        """(bytes for the server, bytes for the client)."""
        if not self._started:
            return data, b""
        out: list[bytes] = []
        for kind, whole in self._client.feed(data):
            self._take(chr(kind), whole, out)
        return b"".join(out), self._own_answers()

    def _take(self, kind: str, whole: bytes, out: list[bytes]) -> None:
        if kind == "P":
            name, sql = whole[5:].split(b"\0", 2)[:2]
            self._statements[name] = _verb(sql)
        elif kind == "B":
            portal, name = whole[5:].split(b"\0", 2)[:2]
            self._portals[portal] = self._statements.get(name, "")
        if self._failed:
            self._take_failed(kind, whole, out)
        elif kind == "Q":
            self._query(_verb(whole[5:-1]), whole, out)
        elif kind == "E":
            self._execute(self._portals.get(whole[5:].split(b"\0", 1)[0], ""), whole, out)
        elif kind == "S":
            self._sync(whole, out)
        elif not self._skipping:
            out.append(whole)

    def _note(self, verb: str) -> bool:
        """Count a statement; whether it is to fail."""
        if verb in ("BEGIN", "START"):
            self._in_block, self._count = True, 0
            return False
        if not self._in_block:
            return False
        self._count += 1
        if self._plan.take(self._count):
            return True
        if verb in _ENDS:
            self._in_block = False
        return False

    def _query(self, verb: str, whole: bytes, out: list[bytes]) -> None:
        if not self._note(verb):
            self._answers.append(_Answer())
            out.append(whole)
        elif verb in _ENDS:
            self._in_block = False
            self._roll_back(out, before=error_bytes(_RETRY_FIELDS))
        else:
            self._failed = True
            self._answers.append(_Answer(ready=error_bytes(_RETRY_FIELDS) + ready_bytes(b"E")))

    def _execute(self, verb: str, whole: bytes, out: list[bytes]) -> None:
        if self._skipping:
            return
        if not self._note(verb):
            out.append(whole)
            return
        self._skipping = True
        self._ending = verb in _ENDS

    def _sync(self, whole: bytes, out: list[bytes]) -> None:
        out.append(whole)
        if not self._skipping:
            self._answers.append(_Answer())
            return
        self._skipping = False
        if self._ending:
            # What the batch did before its COMMIT is answered by the server, then the failure, then a real rollback.
            self._ending = self._in_block = False
            self._answers.append(_Answer(before=error_bytes(_RETRY_FIELDS), status=b"-"))
            self._roll_back(out)
        else:
            self._failed = True
            self._answers.append(_Answer(before=error_bytes(_RETRY_FIELDS), status=b"E"))

    def _roll_back(self, out: list[bytes], before: bytes = b"") -> None:
        out.append(message(b"Q", b"ROLLBACK\0"))
        self._answers.append(_Answer(before=before, silent=True))

    def _take_failed(self, kind: str, whole: bytes, out: list[bytes]) -> None:
        """The client goes on in a block that has failed: only its end reaches the server."""
        if kind == "Q":
            if _verb(whole[5:-1]) in _ENDS:
                self._end_failed(out, backend.command_complete("ROLLBACK"))
            else:
                self._answers.append(_Answer(ready=error_bytes(_FAILED_FIELDS) + ready_bytes(b"E")))
        elif kind == "S":
            own, self._own, self._skipping = b"".join(self._own), [], False
            if self._ending:
                self._ending = False
                self._end_failed(out, own)
            else:
                self._answers.append(_Answer(ready=own + ready_bytes(b"E")))
        elif kind == "X":
            out.append(whole)
        elif not self._skipping:
            self._answer_failed(kind, whole)

    def _answer_failed(self, kind: str, whole: bytes) -> None:
        verb = self._portals.get(whole[5:].split(b"\0", 1)[0], "") if kind == "E" else ""
        if kind in "PBC":
            self._own.append(message({"P": b"1", "B": b"2", "C": b"3"}[kind], b""))
        elif kind == "D":
            self._own.append(message(b"n", b""))
        elif kind == "E" and verb in _ENDS:
            self._ending = True
            self._own.append(backend.command_complete("ROLLBACK"))
        elif kind == "E":
            self._skipping = True
            self._own.append(error_bytes(_FAILED_FIELDS))

    def _end_failed(self, out: list[bytes], before: bytes) -> None:
        self._failed = self._in_block = False
        self._roll_back(out, before)

    # --- the server's side

    def from_server(self, data: bytes) -> bytes:
        """Bytes for the client."""
        if not self._started:
            if data not in _REFUSED_TLS:
                self._started = any(kind == _READY for kind, _ in self._server.feed(data))
            return data
        out: list[bytes] = []
        for kind, whole in self._server.feed(data):
            answer = self._answers[0] if self._answers else _Answer()
            if kind != _READY:
                if not answer.silent:
                    out.append(whole)
                continue
            if self._answers:
                self._answers.popleft()
            out.append(answer.before)
            if answer.status != b"-":
                out.append(ready_bytes(answer.status) if answer.status else whole)
            out.append(self._own_answers())
        return b"".join(out)

    def _own_answers(self) -> bytes:
        """What the filter itself has to say now: all questions before it have been answered."""
        out = []
        while self._answers and self._answers[0].ready:
            out.append(self._answers.popleft().ready)
        return b"".join(out)


def error_bytes(fields: tuple[tuple[str, str], ...]) -> bytes:
    """An ErrorResponse."""
    return backend.response(b"E", fields)


def ready_bytes(status: bytes) -> bytes:
    """A ReadyForQuery."""
    return message(b"Z", status)


def _verb(sql: bytes) -> str:
    """What a statement does: its first word, with `ROLLBACK TO` told apart from ROLLBACK."""
    words = sql.decode("utf-8", "replace").replace(";", " ").upper().split()
    if not words:
        return ""
    is_partial = words[0] == "ROLLBACK" and "TO" in words[1:4]
    return "ROLLBACK TO" if is_partial else words[0]
