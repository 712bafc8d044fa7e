"""What an idle installation must not do: wake up again and again. Counted, not timed: so many times while we look."""

from __future__ import annotations

import time

import pytest

from bench.cluster.processes import of_pod
from tests.e2e.installation import eventually
from tests.e2e.nodes import NodesCluster

from .machines import get

pytestmark = pytest.mark.e2e
SECONDS = 30
MOST_WAKES = 4 * SECONDS
"""Of one process' threads. A leader's Lease takes some two a second, probes and watches the rest (65 to 96 in 30 s for
virt-operator); one server's loop that polls takes ten a second by itself."""


def wakes(nodes: NodesCluster) -> dict[str, int]:
    """Return how often the threads of each of Polyvisor's own processes have been woken up."""
    pods = get(nodes, "pods", "--namespace=kubevirt")["items"]
    found = ((pod["metadata"]["name"], one) for pod in pods for one in of_pod(pod["metadata"]["uid"]))
    return {f"{name} {one.name} {one.pid}": one.wakes for name, one in found}


def test_an_idle_installation_sleeps(pods: NodesCluster) -> None:
    eventually(lambda: not get(pods, "vmis", "--all-namespaces")["items"], 120)
    before = wakes(pods)
    assert any("polyvisor.server" in name for name in before), before
    time.sleep(SECONDS)  # that nothing happens has no event
    grown = {name: count - before[name] for name, count in wakes(pods).items() if name in before}
    assert max(grown.values()) <= MOST_WAKES, grown
