"""Who is a member, told by nodes that come back while there is no quorum."""

from __future__ import annotations

import pytest

from tests.cluster.leaseworld import LeaseWorld
from txndb.cluster.envelopes import PROTOCOL_VERSION
from txndb.cluster.membership import decode_join_response, encode_join
from txndb.cluster.messages import JoinRequest
from txndb.errors import StoreError
from txndb.ids import NodeId


def test_a_node_that_comes_back_elsewhere_is_known_before_its_row_is_written() -> None:
    """Writing the row needs a quorum, and the quorum may need the node at its new address."""
    world = LeaseWorld()
    first = world.node(1)
    world.hosts[1].kill()
    world.hosts[2].kill()
    known = first.membership.members[NodeId(2)]
    request = JoinRequest(
        PROTOCOL_VERSION,
        first.cluster_id,
        NodeId(2),
        known.incarnation + 1,
        "elsewhere:1",
        "",
        known.locality,
        known.host_id,
        0,
    )
    joining = world.start(first.on_call("join", encode_join(request)))
    world.wait(1)
    assert not joining.done()
    assert first.membership.members[NodeId(2)].address == "elsewhere:1"


@pytest.mark.parametrize("address", ["[::1]", "db..example:7433", "x" * 70 + ":7433", ""])
def test_an_address_that_is_none_is_refused_before_anything_is_taken(address: str) -> None:
    """Everybody would keep it: the newcomer's row is written, and sent on, before anybody dials."""
    world = LeaseWorld()
    first = world.node(1)

    def request(at: str) -> bytes:
        return encode_join(
            JoinRequest(PROTOCOL_VERSION, first.cluster_id, NodeId(0), 1, at, "", "", "elsewhere", 0)
        )

    with pytest.raises(StoreError, match="must be reachable"):
        world.run(first.on_call("join", request(address)))
    assert sorted(first.membership.members) == [1, 2, 3]
    admitted = decode_join_response(world.run(first.on_call("join", request("10.0.0.9:7000"))))
    assert admitted.node == 4, "the refused one took a number"
