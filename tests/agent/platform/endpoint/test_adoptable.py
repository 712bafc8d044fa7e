"""What keeps a domain from being adopted beside its XML, and the marks of adopted domains without an instance."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.agent.platform.endpoint.adoptable import obstacles
from polyvisor.agent.platform.endpoint.adopted import AdoptedDomains, adopts, prepare
from polyvisor.agent.platform.endpoint.inventory import Domain
from polyvisor.agent.platform.endpoint.link import HostError
from polyvisor.agent.platform.endpoint.plan import Observed
from polyvisor.api import Obj
from tests.agent.platform.endpoint.conftest import endpoint

UUID = "5f3b9d1e-8e1c-4a55-9df0-9a4a5e1d0c11"
URI = "qemu:///system"


def domain(owner: str = "", machine: str = "", state: str = "shutoff") -> Domain:
    return Domain(UUID, "web", -1, state, 1, 1, True, owner, machine, bool(machine))


def test_what_libvirt_cannot_mark_is_not_adopted() -> None:
    (reason,) = obstacles(domain(), endpoint(URI), "ours", "", marks=False)
    assert reason.startswith("libvirt cannot mark a domain of this hypervisor")


def vm(uid: str = "vm-1", *, leaving: bool = False, host: str = "rack4") -> Obj:
    metadata = {"name": "web", "namespace": "default", "uid": uid, **({"deletionTimestamp": "now"} if leaving else {})}
    template = {
        "metadata": {"annotations": {"hypervisor.kubevirt.io/adopt": UUID}},
        "spec": {"hypervisor": {"endpoint": host}},
    }
    return {"metadata": metadata, "spec": {"template": template}}


@pytest.mark.parametrize(
    ("found", "machine", "spec", "said"),
    [
        (domain(), "", {}, ""),
        (domain("ours", "gone"), "", {}, ""),
        (domain("ours", "vmi-1"), "default/web", {}, "managed already, as VirtualMachine default/web"),
        (domain("another", "vmi-9"), "", {}, "another installation of Polyvisor (another); let go of it there first"),
        (domain(), "", {"management": "Observe"}, "kubectl patch hypervisorendpoint rack4 --type merge -p "),
        (domain(state="shutdown"), "", {}, "it is shutting down; try again"),
    ],
)
def test_why_not_and_what_to_do(found: Domain, machine: str, spec: Obj, said: str) -> None:
    reasons = obstacles(found, endpoint(URI, **spec), "ours", machine)
    assert bool(reasons) == bool(said)
    assert all(said in reason for reason in reasons)


def test_the_host_itself_is_not_adopted() -> None:
    [reason] = obstacles(domain(), endpoint(URI), "ours", "", itself=UUID)
    assert "it is the host itself" in reason


class Copy:
    """An informer without a server."""

    def __init__(self, *objects: Obj) -> None:
        self.objects = objects
        self.indexes: dict[str, Any] = {"uid": lambda obj: [obj["metadata"]["uid"]]}

    def add_index(self, name: str, values: Any) -> None:
        self.indexes[name] = values

    def by_index(self, name: str, value: str) -> list[Obj]:
        return [obj for obj in self.objects if value in self.indexes[name](obj)]

    def get(self, namespace: str, name: str) -> Obj | None:
        key = (namespace, name)
        return next((o for o in self.objects if (o["metadata"]["namespace"], o["metadata"]["name"]) == key), None)


class Host:
    """A keeper that notes what is asked of its host."""

    def __init__(self, found: Domain, refuses: str = "") -> None:
        self.endpoint = endpoint(URI)
        self.seen = Observed("qemu", "ours", domains=[found])
        self.asked: list[tuple[str, str]] = []
        self.events: list[str] = []
        self._refuses = refuses

    async def ask(self, operation: str, **arguments: Any) -> Obj:
        if self._refuses:
            raise HostError(self._refuses)
        self.asked.append((operation, arguments["machine"]))
        return {}

    def event(self, _obj: Obj, _kind: str, reason: str, _message: str) -> None:
        self.events.append(reason)


async def reconciled(host: Host, *vms: Obj, vmis: tuple[Obj, ...] = ()) -> Host:
    copies = Copy(*vms)
    prepare(copies)  # type: ignore[arg-type]
    domains = AdoptedDomains(host, host, copies, Copy(*vmis), cluster="ours")  # type: ignore[arg-type]
    await domains.reconcile(UUID)
    return host


def instance(uid: str = "vmi-1", node: str = "endpoint-rack4") -> Obj:
    return {"metadata": {"name": "web", "namespace": "default", "uid": uid}, "status": {"nodeName": node}}


async def test_a_domain_has_the_mark_of_its_machine_until_an_instance_is_at_work() -> None:
    assert (await reconciled(Host(domain()), vm())).asked == [("mark", "vm-1")]
    assert (await reconciled(Host(domain("ours", "vm-1")), vm())).asked == []
    assert (await reconciled(Host(domain("ours", "gone")), vm())).asked == [("mark", "vm-1")]
    assert (await reconciled(Host(domain()), vm(), vmis=(instance(node=""),))).asked == [("mark", "vm-1")]
    assert (await reconciled(Host(domain()), vm(), vmis=(instance(),))).asked == []
    assert (await reconciled(Host(domain("ours", "vmi-1")), vm(), vmis=(instance(),))).asked == []


async def test_a_mark_goes_with_its_machine_and_no_other_is_touched() -> None:
    assert (await reconciled(Host(domain("ours", "vm-1")))).asked == [("unmark", "vm-1")]
    assert (await reconciled(Host(domain("ours", "vm-1")), vm(leaving=True))).asked == [("unmark", "vm-1")]
    assert (await reconciled(Host(domain("ours", "vmi-1")), vmis=(instance(),))).asked == []
    assert (await reconciled(Host(domain("another", "vm-1")))).asked == []
    assert (await reconciled(Host(domain()))).asked == []
    assert (await reconciled(Host(domain("ours")))).asked == []  # not adopted: the machine's own


async def test_a_domain_of_somebody_else_is_told_and_left() -> None:
    found = await reconciled(Host(domain("another", "vm-9")), vm())
    assert (found.asked, found.events) == ([], ["ForeignOwner"])


async def test_a_host_that_takes_no_mark_is_told() -> None:
    host = Host(domain(), refuses="the driver has no metadata")
    with pytest.raises(HostError):
        await reconciled(host, vm())
    assert host.events == ["MarkFailed"]


def test_a_machine_adopts_on_its_own_endpoint() -> None:
    assert adopts(vm()) == f"rack4/{UUID}"
    assert adopts(vm(host="")) == ""
    assert adopts({"metadata": {}, "spec": {}}) == ""
