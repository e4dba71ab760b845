"""What happens after a decision, or without one: resolving participants, and learning an attempt's outcome.

Used by the coordinator after its own decisions, and by a node for attempts whose gateway is gone (rules M5–M7, R3, R5).
A decided transaction is followed by key, never by range id: each answer names the interval it was applied to, and the
walk goes on until the intervals cover every span.
"""

from __future__ import annotations

from txndb.errors import UnavailableError
from txndb.ids import AttemptId, Timestamp
from txndb.ranges import api
from txndb.txn.routing import Sender

SpanPair = tuple[bytes, bytes]
"""(first key, last key) written at one participant, both included."""


def flatten(spans: list[SpanPair]) -> list[bytes]:
    """Participants as a decision record holds them."""
    return [key for pair in spans for key in pair]


def unflatten(participants: list[bytes]) -> list[SpanPair]:
    """The inverse of `flatten`."""
    return list(zip(participants[::2], participants[1::2], strict=True))


async def resolve(
    sender: Sender, attempt: AttemptId, at: Timestamp, spans: list[SpanPair], done: SpanPair, deadline_us: int
) -> None:
    """Make every participant apply (`at` > 0) or drop (0) its prepared writes. `done`: [start, end) already resolved.

    R3, R5: by key, until the intervals that the answers name cover every span, whatever was split meanwhile. Raises
    `UnavailableError` at the deadline; repeating it is harmless.
    """
    covered = [done]
    for first, last in spans:
        key = first
        while key <= last:
            end = next((end for start, end in covered if start <= key < end), None)
            if end is not None:
                key = end
                continue
            response = await sender.send(key, api.Resolve(attempt, at, [key]), deadline_us)
            if isinstance(response, api.Moved):
                continue
            if not isinstance(response, api.Resolved):
                raise UnavailableError(f"a participant answered {type(response).__name__} to a resolve")
            covered.append((response.start, response.end))


async def ask_outcome(sender: Sender, attempt: AttemptId, anchor: bytes, deadline_us: int) -> api.Outcome:
    """The attempt's definite outcome: the recorded one, or ABORTED, recorded now (M7).

    Raises `UnavailableError` when no quorum answers before the deadline.
    """
    while True:
        response = await sender.send(anchor, api.Recover(attempt, anchor), deadline_us)
        if isinstance(response, api.Outcome):
            return response
        if not isinstance(response, api.Moved):
            raise UnavailableError(f"the anchor answered {type(response).__name__} to an outcome query")


async def finish_decided(
    sender: Sender,
    attempt: AttemptId,
    anchor: bytes,
    at: Timestamp,
    spans: list[SpanPair],
    done: SpanPair,
    deadline_us: int,
) -> None:
    """Resolve every participant of a committed attempt, then let the record lose its participants (M5)."""
    await resolve(sender, attempt, at, spans, done, deadline_us)
    while True:
        response = await sender.send(anchor, api.Forget(attempt, anchor), deadline_us)
        if not isinstance(response, api.Moved):
            return


async def recover(
    sender: Sender, attempt: AttemptId, anchor: bytes, own: SpanPair, deadline_us: int
) -> api.Outcome:
    """Bring an abandoned prepared attempt to its end, seen from the participant that holds `own`.

    M6: "too old" is no verdict for a client, but it is for a participant that is still prepared: a COMMITTED record
    keeps its participants until each has acknowledged its resolve (M5) and is not collected before, so of an attempt
    without a record of which something is still prepared nothing was ever committed. Nor will it be: the anchor's own
    prepare record is gone – while it is there, ABORTED is recorded, however old the attempt – and comes no more.
    """
    outcome = await ask_outcome(sender, attempt, anchor, deadline_us)
    if outcome.status == api.COMMITTED:
        spans = unflatten(outcome.participants) or [own]
        await finish_decided(sender, attempt, anchor, outcome.at, spans, (b"", b""), deadline_us)
    else:
        await resolve(sender, attempt, Timestamp(0), [own], (b"", b""), deadline_us)
    return outcome
