"""The comparison of lock requests: the same answer as item by item, in a fraction of the steps."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from tests.ranges.lockscript import make_txn
from txndb.ids import RangeId
from txndb.limits import SCAN_PAGE_ROWS_MAX
from txndb.ranges.lockitems import EXCLUSIVE, SHARED, Item, ItemSet, items_conflict
from txndb.ranges.locks import LockTable

key = st.binary(max_size=2) | st.sampled_from([bytes([letter]) for letter in b"abcdefgh"])
mode = st.sampled_from([SHARED, EXCLUSIVE])
point = st.builds(lambda k, m: (k, None, m), key, mode)
span = st.tuples(key, key, mode)  # empty and reversed ones too: the answer is the old one even there
items = st.lists(st.one_of(point, span), max_size=6)

STALL_S = 0.05
"""Generous: the comparison itself takes well under a millisecond."""


def row(number: int) -> bytes:
    return b"table\x01%08d" % number


def page(numbers: range) -> list[Item]:
    """What a locked page asks for."""
    held: list[Item] = [(row(n), None, EXCLUSIVE) for n in numbers]
    return [(row(numbers[0]), row(numbers[-1] + 1), SHARED), *held]


def least_seconds(a: list[Item], b: list[Item]) -> tuple[bool, float]:
    """Whether two requests conflict, and the fastest of three comparisons, summaries included."""
    taken: list[float] = []
    for _ in range(3):
        before = time.perf_counter()
        answer = ItemSet(a).conflicts(ItemSet(b))
        taken.append(time.perf_counter() - before)
    return answer, min(taken)


@given(items, items)
def test_sets_conflict_exactly_when_two_of_their_items_do(a: list[Item], b: list[Item]) -> None:
    assert ItemSet(a).conflicts(ItemSet(b)) == any(items_conflict(x, y) for x in a for y in b)


@given(items, span)
def test_a_span_meets_exactly_the_items_that_conflict_with_it(
    wanted: list[Item], held: tuple[bytes, bytes, int]
) -> None:
    met = ItemSet(wanted).meets(*held)
    starts = [item[0] for item in wanted if items_conflict(item, held)]
    assert met in starts if starts else met is None
    low, high = ItemSet(wanted).low, ItemSet(wanted).high
    assert not starts or (held[0] < high and low < held[1])


def test_pages_that_lie_apart_are_compared_at_once() -> None:
    count = SCAN_PAGE_ROWS_MAX
    answer, seconds = least_seconds(page(range(count)), page(range(count, 2 * count)))
    assert not answer and seconds < STALL_S


def test_points_that_lie_between_each_other_are_compared_at_once() -> None:
    even: list[Item] = [(row(2 * n), None, EXCLUSIVE) for n in range(SCAN_PAGE_ROWS_MAX)]
    odd: list[Item] = [(row(2 * n + 1), None, EXCLUSIVE) for n in range(SCAN_PAGE_ROWS_MAX)]
    answer, seconds = least_seconds(even, odd)
    assert not answer and seconds < STALL_S


def test_a_page_passes_a_waiting_page_of_other_rows_at_once() -> None:
    """Three sessions: one holds a row, one waits for it with a page, the third locks the page after."""
    table = LockTable(RangeId(1), 1)
    count = SCAN_PAGE_ROWS_MAX
    a, b, c = (table.open(make_txn(name, age), b"") for age, name in enumerate("abc", 1))
    assert a is not None and b is not None and c is not None
    assert table.acquire(a, [(row(5), None, EXCLUSIVE)], "a")
    assert not table.acquire(b, page(range(count)), "b")
    before = time.perf_counter()
    assert table.acquire(c, page(range(count, 2 * count)), "c")
    assert time.perf_counter() - before < 4 * STALL_S, "the leaseholder stalls"


def test_a_page_among_many_spans_of_others_is_locked_at_once() -> None:
    """A thousand readers hold a span each; the spans are walked once, not once for each row."""
    table = LockTable(RangeId(1), 1)
    for number in range(1000):
        reader = table.open(make_txn(f"r{number}", 10 + number), b"")
        assert reader is not None
        beyond = row(SCAN_PAGE_ROWS_MAX + 2 * number)
        assert table.acquire(reader, [(beyond, beyond + b"\0", SHARED)], number)
    writer = table.open(make_txn("w", 1), b"")
    assert writer is not None
    before = time.perf_counter()
    assert table.acquire(writer, page(range(SCAN_PAGE_ROWS_MAX)), "w")
    assert time.perf_counter() - before < 4 * STALL_S, "the leaseholder stalls"
    assert not table.wounded
