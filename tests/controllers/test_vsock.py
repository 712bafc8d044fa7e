"""Numbers for sockets between host and guest: in the status before the Pod, and no two alike."""

from __future__ import annotations

from typing import Any

from polyvisor.api.resources import VMIS
from polyvisor.controllers import vsock
from polyvisor.controllers.vsock import FIRST, LAST, Numbers

from .conftest import World, instance

Obj = dict[str, Any]


class Vmis:
    """The machines that are known by now."""

    def __init__(self, *machines: Obj) -> None:
        self.machines = list(machines)

    def items(self) -> list[Obj]:
        return self.machines


class Client:
    def __init__(self) -> None:
        self.written: list[Obj] = []

    async def update_status(self, _resource: Any, obj: Obj) -> Obj:
        self.written.append(obj)
        return obj


def machine(uid: str, wants: Any = True, **status: Any) -> Obj:
    devices = {} if wants is None else {"autoattachVSOCK": wants}
    return {"metadata": {"uid": uid}, "spec": {"domain": {"devices": devices}}, "status": status}


async def test_a_machine_that_asks_for_none_has_none() -> None:
    client = Client()
    numbers = Numbers(client, Vmis())  # type: ignore[arg-type]
    for wants in (None, False):
        assert await numbers.give(machine("a", wants)) == machine("a", wants)
    assert not client.written


async def test_no_two_living_machines_have_the_same(monkeypatch: Any) -> None:
    monkeypatch.setattr(vsock, "FIRST", 3)
    monkeypatch.setattr(vsock, "LAST", 6)
    taken = [machine("a", VSOCKCID=3, phase="Running"), machine("b", VSOCKCID=4, phase="Succeeded")]
    wanting = [machine("c"), machine("d"), machine("e")]
    known = Vmis(*taken, *wanting)
    numbers = Numbers(Client(), known)  # type: ignore[arg-type]
    given = [(await numbers.give(each))["status"]["VSOCKCID"] for each in wanting]  # none is known to be written
    assert sorted(given) == [4, 5, 6]
    again = await numbers.give(wanting[0])
    assert again["status"]["VSOCKCID"] == given[0], "a write that was lost gives the same number"


async def test_the_number_is_there_before_the_pod(world: World) -> None:
    await world.create_vmi("m", {"domain": {"devices": {"autoattachVSOCK": True}, "memory": {"guest": "64Mi"}}})
    pod = await world.pod("m")
    vmi = await world.client.get(VMIS, "m", instance("m")["metadata"]["namespace"])
    assert FIRST <= vmi["status"]["VSOCKCID"] <= LAST
    requests = pod["spec"]["containers"][0]["resources"]["requests"]
    assert "devices.kubevirt.io/vhost-vsock" not in requests, "this driver has no use for the device"
    scheduling = await world.vmi("m", lambda v: v["status"]["phase"] == "Scheduling")
    assert scheduling["status"]["VSOCKCID"] == vmi["status"]["VSOCKCID"]
