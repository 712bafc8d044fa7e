"""The oldest release of Kubernetes that is tried: an installation, a refusal, and a machine that finds its node."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from polyvisor.api.resources import NODES, VMS
from tests.e2e.cluster import cluster
from tests.e2e.goprograms import TOOLS, NoGo
from tests.e2e.installation import Installation, eventually
from tests.e2e.mixed import PLAYED, node_of
from tests.needs import unmet
from tests.server.test_webhooks import vm

pytestmark = [pytest.mark.e2e, pytest.mark.proof]
VERSION = re.compile(r"k8s.io/kubernetes (v\S+)")


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with ExitStack() as stack:
        try:
            programs = ("kube-controller-manager", "kube-scheduler", "kwok")
            control_plane = stack.enter_context(cluster(*programs, older=True))
        except NoGo as missing:
            unmet(str(missing))
        found = Installation(control_plane, stack)
        found.install()
        found.start_controller("one")
        eventually(lambda: found.ready("one") and found.leader() == "one", why=lambda: control_plane.tail("one"))
        found.start_api()
        eventually(lambda: found.ready("api"), why=lambda: control_plane.tail("api"))
        eventually(found.available, why=lambda: control_plane.tail("api"))
        yield found


def test_it_is_two_releases_behind(installation: Installation) -> None:
    def pinned(module: str) -> tuple[int, ...]:
        found = VERSION.search((TOOLS / module / "go.mod").read_text())
        assert found
        return tuple(map(int, found[1].removeprefix("v").split(".")))

    served = json.loads(installation.cluster.kubectl("get", "--raw", "/version"))["gitVersion"]
    assert served == "v{}.{}.{}".format(*pinned("kubernetes-older"))
    assert pinned("kubernetes-older")[1] == pinned("kubernetes")[1] - 2


def test_a_machine_finds_its_node(installation: Installation) -> None:
    installation.create(NODES, node_of("kvm-plain", PLAYED["kvm-plain"]))
    refused = installation.refused(VMS, vm(runStrategy="Sometimes"))
    assert refused.code == 422
    installation.create(VMS, vm(runStrategy="Always"))

    def placed() -> bool:
        path = "jsonpath={.items[*].status.phase} {.items[*].status.nodeName}"
        return installation.cluster.kubectl("get", "vmi", "-o", path).split() == ["Scheduled", "kvm-plain"]

    eventually(placed, 60, why=lambda: installation.cluster.kubectl("get", "vmi", "-o", "yaml"))
    printed = installation.cluster.kubectl("get", "vm", "demo").splitlines()[1].split()
    assert printed[0] == "demo"
