"""What is said of definitions that are not ours, and of a configuration that nobody could refuse."""

from __future__ import annotations

import asyncio
from typing import Any

from polyvisor.api.resources import CRDS, RESOURCES, VMIS, VMS
from polyvisor.controllers.definitions import Definitions, configuration_problems
from polyvisor.controllers.kubevirt import status_of
from polyvisor.controllers.objects import condition, now
from polyvisor.drivers import DriverRegistry
from polyvisor.kube import ApiError
from polyvisor.kube.tasks import end_task
from tests.drivers_for_tests import FakeDriver

Obj = dict[str, Any]


class Cluster:
    """Answers with what the test says of definitions."""

    def __init__(self) -> None:
        self.found: dict[str, Obj | ApiError] = {}

    async def get(self, resource: Any, name: str) -> Obj:
        assert resource == CRDS
        answer = self.found.get(name, ApiError(404, "NotFound", "not found"))
        if isinstance(answer, ApiError):
            raise answer
        return answer


def definition(part_of: str = "polyvisor", *served: str) -> Obj:
    versions = [{"name": version, "served": True} for version in served or ("v1",)]
    return {"metadata": {"labels": {"app.kubernetes.io/part-of": part_of}}, "spec": {"versions": versions}}


async def test_each_wrong_definition_is_told_with_what_to_do() -> None:
    cluster = Cluster()
    looks = Definitions(cluster)  # type: ignore[arg-type]
    (said,) = await looks.look([VMIS])
    assert said.endswith("virtualmachineinstances.kubevirt.io is missing: apply the installation again")
    cluster.found = {VMIS.full_name: definition(), VMS.full_name: definition("kubevirt")}
    (said,) = await looks.look([VMIS, VMS])
    assert "virtualmachines.kubevirt.io is not Polyvisor's" in said
    assert "spec.hypervisor, get lost" in said
    cluster.found[VMS.full_name] = definition("polyvisor", "v2", "v3")
    (said,) = await looks.look([VMS])
    assert "serves v2, v3, not v1; apply the installation" in said
    cluster.found[VMS.full_name] = ApiError(403, "Forbidden", "is forbidden")
    (said,) = await looks.look([VMS])
    assert said.endswith("cannot be looked at: is forbidden")


async def test_what_changes_is_told() -> None:
    told: asyncio.Queue[list[str]] = asyncio.Queue()
    cluster = Cluster()
    looks = Definitions(cluster, seconds=0.01)  # type: ignore[arg-type]
    looks.changed = lambda: told.put_nowait(looks.problems)
    task = asyncio.create_task(looks.run())
    async with asyncio.timeout(10):
        assert len(await told.get()) > 1
        mine = [one for one in RESOURCES if one.custom]
        cluster.found = {one.full_name: definition("polyvisor", one.version) for one in mine}
        assert await told.get() == []
    assert told.empty()
    await end_task(task)


def test_a_driver_that_nobody_knows_degrades_and_leaves_the_rest_available() -> None:
    drivers = DriverRegistry([FakeDriver("alpha")])
    listed = {"configuration": {"hypervisors": [{"name": "alpha"}, {"name": "beowulf"}]}}
    kubevirt = {"metadata": {"name": "kubevirt", "generation": 2}, "spec": listed}
    problems = configuration_problems(kubevirt, drivers)
    status = status_of(kubevirt, now(), [], problems)
    degraded = condition({"status": status}, "Degraded") or {}
    assert (degraded["status"], degraded["reason"]) == ("True", "WrongInstallation")
    assert "spec.configuration.hypervisors[1].name: no driver has the name 'beowulf'" in degraded["message"]
    assert (condition({"status": status}, "Available") or {})["status"] == "True"
    well = status_of({**kubevirt, "status": status}, now(), [])
    assert (condition({"status": well}, "Degraded") or {})["status"] == "False"
