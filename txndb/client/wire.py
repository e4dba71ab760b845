"""One conversation with a server over a blocking socket: start-up, requests, answers gathered up to ReadyForQuery.

`Wire` knows pgwire messages and nothing of cursors or transactions. Invariants:
1. After `roundtrip` returns or raises a server's error the server waits for us (ReadyForQuery was read); after any
   other exception the wire is closed and stays closed.
2. An interrupted wait (Ctrl-C) cancels the running statement, reads its answers to the end and only then lets the
   interrupt go on, so the conversation stays in step.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from txndb.client.errors import Error, InterfaceError, InternalError, NotSupportedError, from_fields, lost
from txndb.pgwire import backend, frontend
from txndb.pgwire.framing import Malformed

RECEIVE_BYTES: Final = 256 * 1024
SEND_BYTES_WHOLE: Final = 64 * 1024
"""Requests up to here are sent in one go: they fit the sockets' buffers, also while the server does not read."""

CANCEL_TIMEOUT_S: Final = 10.0

Dial = Callable[[], socket.socket]
"""Opens a new connection to the same server."""


def _ready(sock: socket.socket, events: int, timeout_ms: int | None = None) -> int:
    """Wait for one of the events of poll(2); those that came, 0 after the timeout. `select` knows 1,024 files only."""
    poller = select.poll()
    poller.register(sock, events)
    return sum(seen for _, seen in poller.poll(timeout_ms))


class Answer:
    """What came back for one statement."""

    __slots__ = ("columns", "copy", "rows", "suspended", "tag")

    def __init__(self) -> None:
        self.columns: tuple[backend.Column, ...] | None = None
        self.rows: list[list[bytes | None]] = []
        self.tag = ""
        self.suspended = False
        self.copy = ""


class Wire:
    """See the module's specification."""

    def __init__(self, sock: socket.socket, dial: Dial, *, local: bool = False) -> None:
        self._sock: socket.socket | None = sock
        self._dial = dial
        self._local = local
        self._parser = backend.BackendParser()
        self._pending: deque[Any] = deque()
        self.parameters: dict[str, str] = {}
        self.status = "I"
        self.notices: list[dict[str, str]] = []
        self._key = (0, 0)

    @property
    def closed(self) -> bool:
        """Nothing can be sent any more."""
        return self._sock is None

    def start(self, user: str, password: str, parameters: dict[str, str]) -> None:
        """The start-up conversation; raises the server's refusal."""
        self._send(frontend.startup({"user": user, **parameters}))
        try:
            for message in self._messages():
                if isinstance(message, backend.Authentication):
                    self._authenticate(message, password)
                elif isinstance(message, backend.ReadyForQuery):
                    self.status = message.status
                    return
                elif isinstance(message, backend.ErrorResponse):
                    raise from_fields(message.fields)
                else:
                    self._aside(message)
        except BaseException:
            self.close()
            raise

    def _authenticate(self, message: backend.Authentication, password: str) -> None:
        if message.code == 0:
            return
        if message.code == 3:
            if not password:
                raise InterfaceError("the server asks for a password and none was given", sqlstate="28P01")
            self._send(frontend.password(password.encode() + b"\0"))
            return
        raise NotSupportedError(f"the server asks for authentication method {message.code}", sqlstate="0A000")

    def close(self) -> None:
        """Leave; the server rolls back what is open."""
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.send(frontend.TERMINATE)
            self._sock.close()
            self._sock = None

    def alive(self) -> bool:
        """False when the server has already said goodbye or the socket is dead: nothing was sent that it lost."""
        sock = self._sock
        if sock is None or self._local:  # a server in this process does not go away unnoticed
            return sock is not None
        if not _ready(sock, select.POLLIN, 0):
            return True
        try:
            data = sock.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
        except OSError:
            data = b""
        if data:
            self._pending.extend(self._parser.feed(data))
            if not any(isinstance(message, backend.ErrorResponse | Malformed) for message in self._pending):
                return True
        self._drop()
        return False

    def cancel(self) -> None:
        """Ask the server, over another connection, to end what runs here with 57014."""
        with self._dial() as sock:
            sock.sendall(frontend.cancel_request(*self._key))
            with contextlib.suppress(OSError):
                sock.recv(1)

    def _drop(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _send(self, data: bytes) -> None:
        if self._sock is None:
            raise lost("the connection is closed", "08003")
        try:
            if len(data) <= SEND_BYTES_WHOLE:
                self._sock.sendall(data)
            else:
                self._send_and_read(self._sock, data)
        except OSError as error:
            farewell = self._farewell()
            raise farewell or lost(f"the connection was lost: {error.strerror or error}") from error
        except BaseException:  # half a message may be on its way
            self._drop()
            raise

    def _send_and_read(self, sock: socket.socket, data: bytes) -> None:
        """Send what may exceed the sockets' buffers. Answers are read meanwhile: a server that cannot get rid of them
        stops reading, and both would wait for ever."""
        left = memoryview(data)
        while left:
            events = _ready(sock, select.POLLIN | select.POLLOUT)
            if events & select.POLLOUT:
                with contextlib.suppress(BlockingIOError):
                    left = left[sock.send(left, socket.MSG_DONTWAIT) :]
            if events & ~select.POLLOUT:
                self._read_more(sock)

    def _read_more(self, sock: socket.socket) -> None:
        """Read what is there. The end of the connection is an error: something is left to be sent."""
        data = sock.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "the server closed the connection")
        self._pending.extend(self._parser.feed(data))

    def _farewell(self) -> Error | None:
        """Close; what the server said when it refused to read on, such as that a message is too large."""
        with contextlib.suppress(OSError):
            while self._sock is not None and (data := self._sock.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)):
                self._pending.extend(self._parser.feed(data))
        self._drop()
        return next(
            (
                from_fields(message.fields)
                for message in self._pending
                if isinstance(message, backend.ErrorResponse) and message.fields.get("S") == "FATAL"
            ),
            None,
        )

    def _receive(self) -> list[Any]:
        if self._sock is None:
            raise lost("the connection is closed", "08003")
        try:
            data = self._sock.recv(RECEIVE_BYTES)
        except OSError as error:
            self._drop()
            raise lost(f"the connection was lost: {error.strerror or error}") from error
        if not data:
            self._drop()
            raise lost("the server closed the connection")
        return self._parser.feed(data)

    def _messages(self) -> Iterator[Any]:
        """Messages as they come. What is left unread when the caller stops stays for the next call."""
        pending = self._pending
        while True:
            while pending:
                yield pending.popleft()
            pending.extend(self._receive())

    def _aside(self, message: Any) -> None:
        """Messages that may come at any time."""
        if isinstance(message, backend.ParameterStatus):
            self.parameters[message.name] = message.value
        elif isinstance(message, backend.NoticeResponse):
            self.notices.append(message.fields)
        elif isinstance(message, backend.BackendKeyData):
            self._key = (message.process_id, message.secret)
        elif isinstance(message, Malformed):
            self._drop()
            raise InternalError(f"the server broke the protocol: {message.error}", sqlstate="08P01")

    def roundtrip(self, data: bytes, ready: int = 1) -> list[Answer]:
        """Send, read `ready` times up to ReadyForQuery, and give the answers; the first error is raised at the end."""
        self._send(data)
        answers: list[Answer] = []
        error: Error | None = None
        for left in range(ready, 0, -1):
            reader = _Reader(self)
            try:
                reader.run()
            except KeyboardInterrupt:
                self._interrupted(reader, left)
                raise
            except Error:
                raise
            except BaseException:
                self._drop()
                raise
            answers += reader.answers
            error = error or reader.error
        if error is not None:
            raise error
        return answers

    def _interrupted(self, reader: _Reader, ready: int = 1) -> None:
        """Cancel what runs and read its answers to the end; give up the conversation if that does not work."""
        sock = self._sock
        if sock is None:
            return
        try:
            self.cancel()
            sock.settimeout(CANCEL_TIMEOUT_S)
            reader.run()
            for _ in range(1, ready):
                _Reader(self).run()
            sock.settimeout(None)
        except (OSError, Error, KeyboardInterrupt):
            self._drop()

    # COPY

    def copy_in(self, data: bytes, chunks: Iterable[bytes]) -> Answer:
        """Run one COPY … FROM STDIN statement with the chunks as its data."""
        self._send(data)
        reader = _Reader(self, stop_at_copy=True)
        reader.run()
        if reader.error is None and (not reader.answers or reader.answers[-1].copy != "G"):
            raise InterfaceError("the statement is not COPY … FROM STDIN")
        if reader.error is None:
            try:
                for chunk in chunks:
                    self._send(frontend.copy_data(chunk))
            except BaseException:
                self._send(frontend.copy_fail("the client gave up"))
                _Reader(self).run()
                raise
            self._send(frontend.COPY_DONE)
            reader = _Reader(self)
            reader.run()
        if reader.error is not None:
            raise reader.error
        return reader.answers[-1]

    def copy_out(self, data: bytes) -> Iterator[bytes]:
        """Run one COPY … TO STDOUT statement and give its data piece by piece."""
        self._send(data)
        reader = _Reader(self)
        finished = False
        try:
            for message in self._messages():
                if type(message) is frontend.CopyData:
                    yield message.data
                elif finished := reader.take(message):
                    break
        finally:
            if not finished:  # the caller stopped half-way: end the statement and stay in step
                self._interrupted(reader)
        if reader.error is not None:
            raise reader.error


class _Reader:
    """Gathers answers up to ReadyForQuery; can go on after an interrupt."""

    def __init__(self, wire: Wire, stop_at_copy: bool = False) -> None:
        self._wire = wire
        self._stop_at_copy = stop_at_copy
        self._answer = Answer()
        self.answers: list[Answer] = []
        self.error: Error | None = None

    def run(self) -> None:
        """Read until the server waits."""
        wire = self._wire
        pending = wire._pending
        while True:
            while pending:
                message = pending.popleft()
                if type(message) is backend.DataRow:
                    self._answer.rows.append(message.values)
                elif self.take(message):
                    return
            pending.extend(wire._receive())

    def take(self, message: Any) -> bool:
        """Handle one message; True when the server waits for us."""
        kind = type(message)
        if kind is backend.RowDescription:
            self._answer.columns = message.columns
        elif kind is backend.Done:
            if message.kind in "Is":
                self._answer.suspended = message.kind == "s"
                self._finish()
        elif kind is backend.CommandComplete:
            self._answer.tag = message.tag
            self._finish()
        elif kind is backend.ReadyForQuery:
            self._wire.status = message.status
            return True
        elif kind is backend.ErrorResponse:
            self.error = self.error or from_fields(message.fields)
            self._answer = Answer()
            if message.fields.get("S") == "FATAL":
                self._wire._drop()
                raise self.error
        elif kind is backend.CopyResponse:
            return self._copy(message)
        else:
            self._wire._aside(message)
        return False

    def _copy(self, message: backend.CopyResponse) -> bool:
        self._answer.copy = message.direction
        if message.direction != "G":
            return False
        if self._stop_at_copy:
            self.answers.append(self._answer)
            return True
        self._wire._send(frontend.copy_fail("this call cannot send COPY data; use copy_in"))
        return False

    def _finish(self) -> None:
        self.answers.append(self._answer)
        self._answer = Answer()
