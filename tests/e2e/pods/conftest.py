"""The cluster of this folder's tests: one real node with Polyvisor and the demo's guests on it, and an audit log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.cluster import audit
from tests.e2e.goprograms import NoGo
from tests.e2e.node_images import demo_guests
from tests.e2e.nodes import NodesCluster, cluster_with_nodes, images
from tests.needs import need_root, unmet


def audited(nodes: NodesCluster) -> None:
    """Have the API server write down who wrote what."""
    nodes.extra["kube-apiserver"] = audit.arguments(nodes.folder)


@pytest.fixture(scope="package")
def pods() -> Iterator[NodesCluster]:
    need_root()
    try:
        with cluster_with_nodes(1, [*images(), demo_guests()], audited) as found:
            found.install()
            yield found
    except NoGo as missing:
        unmet(str(missing))
