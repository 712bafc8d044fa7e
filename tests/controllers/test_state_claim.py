from __future__ import annotations

from polyvisor.api.resources import PVCS, VMS

from .conftest import NAMESPACE, World

KEPT = {"domain": {"devices": {"tpm": {"persistent": True}}, "memory": {"guest": "64Mi"}}}
CLAIM = "persistent-state-for-m"


async def test_state_of_an_instance_alone_belongs_to_it(world: World) -> None:
    vmi = await world.create_vmi(spec=KEPT)
    pod = await world.pod("m")
    assert {"claimName": CLAIM} in [one.get("persistentVolumeClaim") for one in pod["spec"]["volumes"]]
    claim = await world.client.get(PVCS, CLAIM, NAMESPACE)
    assert claim["metadata"]["ownerReferences"][0]["uid"] == vmi["metadata"]["uid"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]


async def test_state_of_a_virtual_machine_outlives_its_instances(world: World) -> None:
    body = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "m", "namespace": NAMESPACE},
        "spec": {"runStrategy": "Always", "template": {"spec": KEPT}},
    }
    vm = await world.client.create(VMS, body)
    await world.pod("m")
    claim = await world.client.get(PVCS, CLAIM, NAMESPACE)
    (owner,) = claim["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("VirtualMachine", vm["metadata"]["uid"])


async def test_a_machine_without_kept_state_has_no_claim(world: World) -> None:
    await world.create_vmi()
    await world.pod("m")
    assert await world.client.list(PVCS, NAMESPACE) == []


async def test_a_claim_of_somebody_else_is_not_taken(world: World) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    metadata = {"name": CLAIM, "namespace": NAMESPACE}
    await world.client.create(
        PVCS, {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}
    )
    await world.create_vmi(spec=KEPT)
    held = await world.vmi("m", lambda v: v["status"]["conditions"])
    held = await world.vmi("m", lambda v: any(c.get("reason") for c in v["status"]["conditions"][1:]))
    (why,) = [c for c in held["status"]["conditions"] if c["type"] == "Synchronized"]
    assert why["reason"] == "FailedBackendStorageCreate"
    assert CLAIM in why["message"]
