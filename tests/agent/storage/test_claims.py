"""Claims that are not for this node."""

from __future__ import annotations

from polyvisor.api.resources import PVCS, VMIS

from ..test_machines import Home, condition
from ..test_machines import home as home


async def test_claim_of_a_disk_on_another_host_gets_no_folder_here(home: Home) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}, "volumeName": "rack4-vda"}
    metadata = {"name": "c", "namespace": "default"}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}
    await home.client.create(PVCS, claim)
    async with home.agent_running():
        await home.machine("one", {"name": "data", "persistentVolumeClaim": {"claimName": "c"}})
        vmi = await home.until(VMIS, "one", lambda v: "conditions" in v["status"])
        said = condition(vmi, "Synchronized")["message"]
        assert "PersistentVolumeClaim default/c is bound to PersistentVolume rack4-vda" in said
        found = await home.client.get(PVCS, "c", "default")
        assert (found["status"], found["metadata"].get("finalizers")) == ({"phase": "Pending"}, None)
        assert not (home.state / "volumes/default/c").exists()
