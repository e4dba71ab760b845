"""Whatever a file holds, a checker gives a verdict or says what is wrong with the file."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txndb.sim.checkers.calls import HistoryError
from txndb.sim.checkers.models import MODELS, judge
from txndb.sim.checkers.reader import read_history

_OPERATIONS: Final = {
    "register": ("read", "write", "cas", "is"),
    "cas-register": ("read", "write", "cas"),
    "kv": ("get", "put", "append"),
    "mutex": ("acquire", "release"),
    "bank": ("read", "transfer"),
    "set": ("add", "read"),
    "set-full": ("add", "read"),
    "counter": ("add", "read"),
    "monotonic": ("add", "read"),
    "sequential": ("write", "read"),
    "cycle": ("read", "swap"),
    "unique-ids": ("generate",),
    "total-queue": ("enqueue", "dequeue", "drain"),
    "comments": ("write", "read"),
    "g2": ("insert", "read"),
    "schema": ("put", "column", "truncate", "side", "look"),
    "long-fork": ("read", "write", "txn"),
    "append": ("txn",),
    "rw": ("txn",),
    "multi-register": ("txn",),
}
_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.floats(-1, 1)
    | st.sampled_from(("", "x", "val", "sts"))
)
_step = st.tuples(
    st.sampled_from(("r", "w", "append", "x")), _scalars, _scalars | st.lists(_scalars, max_size=3)
)
_values = st.recursive(
    _scalars | st.lists(_step, max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(("val", "sts", "0", "1")), inner)
    ),
    max_leaves=8,
)


@st.composite
def _histories(draw: st.DrawFn, operations: tuple[str, ...]) -> list[dict[str, Any]]:
    """Calls with their completions in some order, with any values."""
    lines: list[dict[str, Any]] = []
    for process in range(draw(st.integers(0, 5))):
        f = draw(st.sampled_from(operations))
        key = draw(st.none() | st.integers(0, 1) | st.just([1]))
        call = {"process": process, "f": f, "key": key}
        at = draw(st.integers(0, len(lines)))
        lines.insert(at, {**call, "type": "invoke", "value": draw(_values)})
        kind = draw(st.sampled_from(("ok", "ok", "fail", "info", "")))
        if kind:
            lines.insert(
                draw(st.integers(at + 1, len(lines))), {**call, "type": kind, "value": draw(_values)}
            )
    return lines


@pytest.mark.parametrize("model", sorted(MODELS))
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_values_end_in_a_verdict_or_a_complaint(model: str, data: st.DataObject) -> None:
    lines = data.draw(_histories(_OPERATIONS[model]))
    try:
        verdict = judge(read_history(msgspec.json.encode(lines)), model)
    except HistoryError as error:
        assert "\n" not in str(error)
        return
    if verdict.valid is False:
        assert verdict.anomalies
        assert all(found.kind and found.text for found in verdict.anomalies)


@settings(max_examples=100, deadline=None)
@given(
    data=st.binary(max_size=60)
    | st.lists(_values, max_size=3).map(msgspec.json.encode)
    | _values.map(msgspec.json.encode)
)
def test_any_bytes_are_a_history_or_a_complaint(data: bytes) -> None:
    try:
        read_history(data)
    except HistoryError as error:
        assert "\n" not in str(error)
