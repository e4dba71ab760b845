"""Client URLs and addresses: anything a person may type gives a target or one `InterfaceError`, never another error."""

from __future__ import annotations

import contextlib

from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.budget import budget
from txndb.client.errors import InterfaceError
from txndb.client.target import parse_target
from txndb.cluster.addresses import parse_address
from txndb.errors import ProtocolError

PIECES = st.sampled_from(
    (
        *"/?@:[]&=,% \0ä\ud800",
        *("txndb://", "postgresql://", "://", "::1", "127.0.0.1", "5432", "%zz", "%00", "-1", "nan", "inf"),
        *("connect_timeout", "sslmode", "require", "99999999"),
    )
)
URLS = st.lists(PIECES | st.text(max_size=4), max_size=12).map("".join)


@budget(300)
@given(URLS)
@example("txndb://h:1/d?connect_timeout=soon")
@example("txndb://h:99999/d")
@example("txndb://h/d?connect_timeout=nan")
@example("txndb://h/d?connect_timeout=-1")
def test_a_target_or_one_clear_error(text: str) -> None:
    for prefix in ("", "txndb://"):
        try:
            target = parse_target(prefix + text)
        except InterfaceError as error:
            assert str(error)
            continue
        for host, port in target.hosts:
            assert host and 0 < port < 65_536
        assert target.connect_timeout_s is None or target.connect_timeout_s > 0


@budget(300)
@given(URLS)
def test_an_address_or_one_clear_error(text: str) -> None:
    with contextlib.suppress(ProtocolError):
        host, port = parse_address(text)
        assert host and 0 <= port < 65_536
