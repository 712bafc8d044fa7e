"""What an endpoint's Node says of CPU models and machine types, from a real host."""

from __future__ import annotations

import pytest

from polyvisor.agent.node import probing
from polyvisor.agent.platform.endpoint.host_node import probed
from polyvisor.drivers import DriverRegistry
from tests.agent.platform.endpoint.conftest import Watched
from tests.agent.platform.endpoint.hosts import HypervisorHost
from tests.agent.platform.endpoint.test_hosts import by_socket

pytestmark = pytest.mark.root


async def test_a_host_tells_its_models_and_machine_types(
    host: HypervisorHost, watched: Watched, drivers: DriverRegistry
) -> None:
    watched.start(by_socket(host))
    seen = await watched.connected()
    driver = drivers.get("qemu")
    assert driver is not None
    labels = probing.labels_of({"qemu": probed(driver, seen)})
    assert labels["machine-type.node.kubevirt.io/q35"] == "true"
    assert labels["cpu-model.node.kubevirt.io/qemu64"] == "true"


async def test_a_host_that_tells_nothing_has_no_such_labels(host: HypervisorHost, watched: Watched) -> None:
    watched.start(by_socket(host, "lxc"))
    found = (await watched.connected()).host
    assert found is not None
    assert found.guest_cpus is None
