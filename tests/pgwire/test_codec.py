"""The codec: what is built is what is read, in any pieces; garbage is an error value, bounded and in its place."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txndb.errors import SqlError
from txndb.pgwire import backend, frontend
from txndb.pgwire.framing import Malformed

STARTUP = frontend.startup({"user": "root", "database": "d"})
TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20)
FORMATS = st.lists(st.sampled_from((0, 1)), max_size=3).map(tuple)
VALUES = st.lists(st.none() | st.binary(max_size=300), max_size=4)

FRONTEND: list[tuple[bytes, object]] = [
    (frontend.query("SELECT 1"), frontend.Query("SELECT 1")),
    (frontend.parse("s", "SELECT $1", (20, 0)), frontend.Parse("s", "SELECT $1", (20, 0))),
    (
        frontend.bind("p", "s", [b"1", None, b""], (1,), (0, 1)),
        frontend.Bind("p", "s", (1,), [b"1", None, b""], (0, 1)),
    ),
    (frontend.describe("S", "s"), frontend.Describe("S", "s")),
    (frontend.execute("p", 7), frontend.Execute("p", 7)),
    (frontend.close("P", "p"), frontend.Close("P", "p")),
    (frontend.SYNC, frontend.Sync()),
    (frontend.FLUSH, frontend.Flush()),
    (backend.copy_lines([b"x\0y"]), frontend.CopyData(b"x\0y")),
    (frontend.copy_data(b"x\0y"), frontend.CopyData(b"x\0y")),
    (frontend.COPY_DONE, frontend.CopyDone()),
    (frontend.copy_fail("no"), frontend.CopyFail("no")),
    (frontend.password(b"secret\0"), frontend.Password(b"secret\0")),
    (frontend.TERMINATE, frontend.Terminate()),
]


def started() -> frontend.FrontendParser:
    parser = frontend.FrontendParser()
    assert parser.feed(STARTUP) == [frontend.Startup(3, 0, {"user": "root", "database": "d"})]
    parser.trusted()
    return parser


@pytest.mark.parametrize(("raw", "value"), FRONTEND, ids=[type(value).__name__ for _, value in FRONTEND])
def test_frontend_messages_are_read_as_built(raw: bytes, value: object) -> None:
    assert started().feed(raw) == [value]


@given(st.lists(st.integers(1, 40), min_size=1))
def test_a_stream_reads_the_same_in_any_pieces(sizes: list[int]) -> None:
    stream = STARTUP + b"".join(raw for raw, _ in FRONTEND) * 2
    parser = frontend.FrontendParser()
    got: list[Any] = []
    at = index = 0
    while at < len(stream):
        size = sizes[index % len(sizes)]
        got += parser.feed(stream[at : at + size])
        at, index = at + size, index + 1
    assert got[1:] == [value for _, value in FRONTEND] * 2
    assert parser.buffered_bytes == 0


@given(TEXT, TEXT, FORMATS, VALUES, FORMATS)
def test_bind_round_trip(
    portal: str, name: str, formats: tuple[int, ...], values: list[bytes | None], results: tuple[int, ...]
) -> None:
    raw = frontend.bind(portal, name, values, formats, results)
    assert started().feed(raw) == [frontend.Bind(portal, name, formats, values, results)]


@given(st.binary(max_size=200))
def test_any_bytes_before_startup_give_messages_or_an_error(data: bytes) -> None:
    for message in frontend.FrontendParser().feed(data):
        assert not isinstance(message, Malformed) or message.fatal


@given(st.lists(st.tuples(st.sampled_from(b"QPBDECSHdcfFXp"), st.binary(max_size=60)), max_size=8))
def test_any_body_gives_a_message_or_an_error_in_its_place(messages: list[tuple[int, bytes]]) -> None:
    parser = started()
    stream = b"".join(bytes([kind]) + (len(body) + 4).to_bytes(4, "big") + body for kind, body in messages)
    got = parser.feed(stream)
    if not any(isinstance(message, Malformed) and message.fatal for message in got):
        assert len(got) == len(messages)
        assert parser.buffered_bytes == 0


@given(st.binary(max_size=400))
def test_a_client_survives_any_bytes(data: bytes) -> None:
    for message in backend.BackendParser().feed(data):
        assert isinstance(message, Malformed | backend.BackendMessage)


@given(st.lists(st.tuples(st.sampled_from(b"RKCGHWdcDENAtSZTv123nIs"), st.binary(max_size=60)), max_size=8))
def test_a_client_reads_any_body_or_says_so(messages: list[tuple[int, bytes]]) -> None:
    stream = b"".join(bytes([kind]) + (len(body) + 4).to_bytes(4, "big") + body for kind, body in messages)
    assert len(backend.BackendParser().feed(stream)) == len(messages)


def test_a_bad_length_stops_the_stream() -> None:
    parser = started()
    got = parser.feed(frontend.SYNC + b"Q\0\0\0\3")
    assert got[0] == frontend.Sync()
    assert isinstance(got[1], Malformed)
    assert got[1].fatal
    assert parser.feed(frontend.SYNC) == []


def test_before_authentication_no_message_may_be_large() -> None:
    parser = frontend.FrontendParser()
    parser.feed(STARTUP)
    (refused,) = parser.feed(b"p" + (frontend.UNTRUSTED_BYTES_MAX + 1).to_bytes(4, "big"))
    assert isinstance(refused, Malformed)
    assert refused.error.code == "54000"


def test_a_count_that_promises_more_than_there_is_costs_nothing() -> None:
    body = b"\0\0" + b"\0\0" + b"\xff\xff"
    (refused,) = started().feed(b"B" + (len(body) + 4).to_bytes(4, "big") + body)
    assert isinstance(refused, Malformed)
    assert not refused.fatal


def test_text_that_is_not_utf8_is_22021_and_the_stream_goes_on() -> None:
    got = started().feed(b"Q\0\0\0\6\xff\0" + frontend.SYNC)
    assert isinstance(got[0], Malformed)
    assert isinstance(got[0].error, SqlError)
    assert (got[0].error.code, got[0].fatal, got[0].kind) == ("22021", False, "Q")
    assert got[1] == frontend.Sync()


def test_first_messages() -> None:
    parser = frontend.FrontendParser()
    assert parser.feed(frontend.ssl_request()) == [frontend.SSLRequest()]
    assert parser.feed(struct.pack("!II", 8, frontend.GSSENC_CODE)) == [frontend.GSSENCRequest()]
    assert parser.feed(STARTUP + frontend.SYNC)[1:] == [frontend.Sync()]
    assert frontend.FrontendParser().feed(frontend.cancel_request(7, 0xFFFFFFFF)) == [
        frontend.CancelRequest(7, 0xFFFFFFFF)
    ]


def test_an_unknown_protocol_version_is_refused() -> None:
    (refused,) = frontend.FrontendParser().feed(struct.pack("!II", 8, 2 << 16))
    assert isinstance(refused, Malformed)
    assert "2.0" in refused.error.message


@given(st.lists(st.tuples(*[st.none() | st.binary(max_size=600)] * 3), max_size=5))
def test_rows_are_read_as_encoded(rows: list[tuple[bytes | None, ...]]) -> None:
    encode = backend.row_encoder([bytes] * 3)
    assert backend.BackendParser().feed(encode(rows)) == [backend.DataRow(list(row)) for row in rows]


@pytest.mark.parametrize("count", [0, 1, 64, 65, 300])
def test_rows_of_any_width(count: int) -> None:
    row = [index if index % 3 else None for index in range(count)]
    encode = backend.row_encoder([lambda value: b"%d" % value] * count)
    want = backend.DataRow([None if value is None else b"%d" % value for value in row])
    assert backend.BackendParser().feed(encode([row, row])) == [want, want]


def test_backend_messages_are_read_as_built() -> None:
    column = backend.Column("a", 1, 2, 23, 4, -1, 1)
    stream = [
        (backend.AUTHENTICATION_OK, backend.Authentication(0, b"")),
        (backend.parameter_status("TimeZone", "UTC"), backend.ParameterStatus("TimeZone", "UTC")),
        (backend.backend_key_data(1, 0xFFFFFFFF), backend.BackendKeyData(1, 0xFFFFFFFF)),
        (backend.row_description([column]), backend.RowDescription((column,))),
        (backend.parameter_description([20, 25]), backend.ParameterDescription((20, 25))),
        (backend.command_complete("SELECT 1"), backend.CommandComplete("SELECT 1")),
        (backend.copy_in_response(2), backend.CopyResponse("G", False, (0, 0))),
        (backend.copy_out_response(1, True), backend.CopyResponse("H", True, (1,))),
        (backend.response(b"E", (("S", "ERROR"), ("D", ""))), backend.ErrorResponse({"S": "ERROR"})),
        (backend.negotiate_protocol_version(0, ["_pq_.x"]), backend.Negotiate(0, ("_pq_.x",))),
        (backend.PARSE_COMPLETE, backend.Done("1")),
        (backend.READY["T"], backend.ReadyForQuery("T")),
    ]
    assert backend.BackendParser().feed(b"".join(raw for raw, _ in stream)) == [value for _, value in stream]


def test_a_zero_character_cannot_be_sent() -> None:
    with pytest.raises(SqlError):
        frontend.query("SELECT '\0'")
