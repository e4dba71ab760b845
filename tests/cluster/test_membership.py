"""Who is a member, told by nodes that come back while there is no quorum."""

from __future__ import annotations

from tests.cluster.leaseworld import LeaseWorld
from txndb.cluster.envelopes import PROTOCOL_VERSION
from txndb.cluster.membership import encode_join
from txndb.cluster.messages import JoinRequest
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
