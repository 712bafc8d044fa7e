"""Whose domain a machine may take over on a host: nobody else's, whatever UUID it says is its own."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.agent.errors import AgentError
from polyvisor.agent.platform.endpoint.adopted import prepare
from polyvisor.agent.platform.endpoint.inventory import Domain
from polyvisor.agent.platform.endpoint.plan import Observed
from polyvisor.agent.platform.endpoint.starting import Starter
from polyvisor.api.endpoint_names import ADOPT_ANNOTATION, ENDPOINT_FINALIZER
from polyvisor.drivers import registry
from tests.agent.platform.endpoint.conftest import endpoint
from tests.agent.platform.endpoint.test_adoptable import Copy

Obj = dict[str, Any]
UUID = "11111111-2222-3333-4444-555555555555"
RUNNING = {"uuid": UUID, "name": "db", "id": 7, "state": "running", "vcpus": 1, "memoryBytes": 1 << 26}


def obj(name: str, uid: str, namespace: str, **annotations: str) -> Obj:
    metadata = {"name": name, "namespace": namespace, "uid": uid, "finalizers": [ENDPOINT_FINALIZER]}
    return {
        "metadata": {**metadata, "annotations": {key.replace("_", "-"): value for key, value in annotations.items()}},
        "spec": {"domain": {"devices": {}, "firmware": {"uuid": UUID}}, "hypervisor": {"endpoint": "rack4"}},
        "status": {},
    }


class Host:
    """A keeper that notes what is asked of its host."""

    def __init__(self) -> None:
        self.endpoint = endpoint("qemu+ssh://rack4/system")
        self.seen = Observed("qemu", "ours")
        self.asked: list[tuple[str, Any]] = []

    async def ask(self, operation: str, *_: Any, **arguments: Any) -> Obj:
        self.asked.append((operation, arguments.get("before")))
        return RUNNING

    def event(self, *_: Any) -> None:
        pass

    async def write(self, *_: Any) -> None:
        pass


class Copies(Copy):
    def learn(self, _obj: Obj) -> None:
        pass


async def started(vmi: Obj, domain: Domain, *vms: Obj, vmis: tuple[Obj, ...] = ()) -> list[tuple[str, Any]]:
    host, machines = Host(), Copies(*vms)
    prepare(machines)  # type: ignore[arg-type]
    starter = Starter(
        host, host, host, Copies(vmi, *vmis), machines, host, host.write,  # type: ignore[arg-type]
        cluster="ours", images=lambda: None,
    )  # fmt: skip
    driver = registry().get("qemu")
    assert driver is not None
    await starter.start(vmi, None, domain, driver)
    return host.asked


def domain(machine: str, *, state: str = "shutoff", owner: str = "ours", adopted: bool = True) -> Domain:
    return Domain(UUID, "db", 7, state, 1, 1 << 26, owner=owner, machine=machine, adopted=adopted)


THEIRS = obj("db", "vm-theirs", "theirs")


@pytest.mark.parametrize("state", ["running", "shutoff"])
async def test_the_uuid_of_another_tenants_adopted_domain_is_no_way_to_it(state: str) -> None:
    """The domain of a machine that is stopped has the mark of the VirtualMachine, not of an instance."""
    attacker = obj("mine", "vmi-mine", "mine", **{"hypervisor.kubevirt.io/adopted-spec": "x"})
    with pytest.raises(AgentError, match="not this machine's"):
        await started(attacker, domain("vm-theirs", state=state), THEIRS)


@pytest.mark.parametrize("state", ["running", "shutoff"])
async def test_a_domain_of_a_machine_that_is_there_is_not_adopted_by_another(state: str) -> None:
    attacker = obj("mine", "vmi-mine", "mine", **{ADOPT_ANNOTATION: UUID})
    with pytest.raises(AgentError, match="marked as that of another machine"):
        await started(attacker, domain("vm-theirs", state=state), THEIRS)


async def test_an_owner_reference_to_another_tenants_machine_proves_nothing() -> None:
    attacker = obj("db", "vmi-mine", "mine")
    owner = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "db", "uid": "vm-theirs"}
    attacker["metadata"]["ownerReferences"] = [{**owner, "controller": True}]
    with pytest.raises(AgentError, match="not this machine's"):
        await started(attacker, domain("vm-theirs"), THEIRS)


@pytest.mark.parametrize("owner", ["", "another"])
async def test_a_domain_that_is_nobodys_is_taken_over_by_the_word_alone(owner: str) -> None:
    vmi = obj("mine", "vmi-mine", "mine")
    with pytest.raises(AgentError, match="not this machine's"):
        await started(vmi, domain("", owner=owner, adopted=False))
    vmi = obj("mine", "vmi-mine", "mine", **{ADOPT_ANNOTATION: UUID})
    if owner:
        with pytest.raises(AgentError, match="another installation"):
            await started(vmi, domain("m", owner=owner, adopted=False, state="running"))
        return
    assert await started(vmi, domain("", owner=owner, adopted=False, state="running")) == [
        ("mark", ""),
        ("start", None),
    ]


async def test_an_instance_takes_over_the_domain_of_its_own_machine() -> None:
    vmi = obj("db", "vmi-2", "theirs", **{"hypervisor.kubevirt.io/adopted-spec": "x"})
    asked = await started(vmi, domain("vm-theirs", state="running"), THEIRS)
    assert asked == [("mark", "vm-theirs"), ("start", None)]


async def test_a_mark_of_a_machine_that_is_gone_does_not_hold_up_an_adoption() -> None:
    vmi = obj("mine", "vmi-mine", "mine", **{ADOPT_ANNOTATION: UUID})
    assert (await started(vmi, domain("gone", state="running")))[0] == ("mark", "gone")
