"""The cluster of this folder's tests: one real node with Polyvisor and the demo's guests on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.goprograms import NoGo
from tests.e2e.node_images import demo_guests
from tests.e2e.nodes import NodesCluster, cluster_with_nodes, images
from tests.needs import need_root, unmet


@pytest.fixture(scope="package")
def pods() -> Iterator[NodesCluster]:
    need_root()
    try:
        with cluster_with_nodes(1, [*images(), demo_guests()]) as found:
            found.install()
            yield found
    except NoGo as missing:
        unmet(str(missing))
