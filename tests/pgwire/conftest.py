"""Fixtures shared with the driver's tests: a node of its own process."""

from __future__ import annotations

from tests.client.conftest import node_url as node_url
