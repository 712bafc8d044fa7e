"""The cluster of this folder's tests: one real node with Polyvisor and the demo's guests on it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.e2e.goprograms import NoGo
from tests.e2e.node_images import demo_guests
from tests.e2e.nodes import NodesCluster, cluster_with_nodes, images


@pytest.fixture(scope="package")
def pods() -> Iterator[NodesCluster]:
    if os.geteuid():
        pytest.skip("nodes need root")
    try:
        with cluster_with_nodes(1, [*images(), demo_guests()]) as found:
            found.install()
            yield found
    except NoGo as missing:
        pytest.skip(str(missing))
