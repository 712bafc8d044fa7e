"""A guest whose console cannot be opened on its host runs all the same, and its machine says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polyvisor.agent.platform.endpoint.inventory import Domain
from polyvisor.agent.platform.endpoint.link import HostError
from polyvisor.agent.platform.endpoint.machines import Machines
from polyvisor.agent.platform.endpoint.plan import Observed
from polyvisor.api import Obj
from polyvisor.drivers import registry
from tests.agent.platform.endpoint.conftest import endpoint

UUID = "5f3b9d1e-8e1c-4a55-9df0-9a4a5e1d0c11"
LOCKED = "Couldn't create lock file for device '/dev/pts/0'"
DOMAIN = {"uuid": UUID, "name": "default_web", "id": 1, "state": "running", "vcpus": 1, "memoryBytes": 1 << 27}
MARK = "<m cluster='ours' machine='u'/>"


class Host:
    """A keeper of a host on which one guest runs; ``wrong`` is why its console cannot be opened."""

    def __init__(self, wrong: str) -> None:
        self.endpoint = endpoint("qemu:///system")
        self.seen = Observed("qemu", "ours", domains=[Domain(UUID, "default_web", 1, "running", 1, 1 << 27)])
        self.wrong = wrong

    async def ask(self, operation: str, *_: Any, **__: Any) -> Obj:
        if operation == "follow" and self.wrong:
            raise HostError(self.wrong)
        return {"state": {**DOMAIN, "mark": MARK}, "describe": {"xml": "<domain/>"}}.get(operation, {})


class Cluster:
    """The one machine, as client and copies of objects have it; ``events`` and ``writes`` are noted."""

    def __init__(self) -> None:
        status = {"phase": "Scheduled", "nodeName": "endpoint-rack4", "hypervisor": {"driver": "qemu"}}
        metadata = {"name": "web", "namespace": "default", "uid": "u", "resourceVersion": "1"}
        spec = {"domain": {"devices": {}, "firmware": {"uuid": UUID}}}
        self.vmi: Obj = {"metadata": metadata, "spec": spec, "status": status}
        self.events: list[tuple[str, str]] = []
        self.writes = 0

    def get(self, *_: Any) -> Obj:
        return self.vmi

    def by_index(self, *_: Any) -> list[Obj]:
        return []

    def learn(self, vmi: Obj) -> None:
        self.vmi = vmi

    async def update_status(self, _resource: Any, vmi: Obj) -> Obj:
        self.writes += 1
        return vmi

    def event(self, _obj: Obj, _kind: str, reason: str, message: str) -> None:
        self.events.append((reason, message))

    def synchronized(self) -> list[tuple[str, str]]:
        found = self.vmi["status"].get("conditions") or []
        return [(one["status"], one["message"]) for one in found if one["type"] == "Synchronized"]


def machines(host: Host, cluster: Cluster) -> Machines:
    return Machines(
        cluster, cluster, registry(), host, cluster, cluster, cluster,  # type: ignore[arg-type]
        cluster="ours", folder=Path("/nonexistent"), images=lambda: None, address="",
    )  # fmt: skip


async def test_a_guest_without_its_console_is_shown_as_running() -> None:
    cluster, host = Cluster(), Host(LOCKED)
    found = machines(host, cluster)
    assert await found.reconcile(("default", "web"))  # to be tried again
    assert cluster.vmi["status"]["phase"] == "Running"
    assert cluster.synchronized() == [("False", f"the console cannot be opened: {LOCKED}")]
    assert [message for _, message in cluster.events] == [f"the console cannot be opened: {LOCKED}"]
    await found.reconcile(("default", "web"))
    assert (len(cluster.events), cluster.writes) == (1, 1)
    host.wrong = ""
    await found.reconcile(("default", "web"))
    assert cluster.synchronized() == []
