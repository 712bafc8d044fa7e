"""DataVolumes in an ESX host's datastore, against VMware's simulator (vcsim): brought there, fetched, copied there."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from polyvisor.api.cluster_resources import STORAGE_CLASSES
from polyvisor.api.node_names import ENDPOINT_CSI_DRIVER
from polyvisor.api.resources import DATAVOLUMES, PVCS
from tests.agent.platform.endpoint.conftest import drivers as drivers
from tests.agent.platform.endpoint.world import World, phase
from tests.agent.web_server import Answer, web
from tests.e2e.esx import EsxHost
from tests.e2e.test_esx_endpoints import CONTENT, mapped
from tests.e2e.test_esx_endpoints import esx as esx
from tests.e2e.test_esx_endpoints import world as world

pytestmark = pytest.mark.e2e


async def test_a_data_volume_is_brought_to_the_datastore_and_its_disk_fetched_from_there(
    world: World, esx: EsxHost, tmp_path: Path
) -> None:
    made = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "slow"}}
    await world.client.create(STORAGE_CLASSES, {**made, "provisioner": ENDPOINT_CSI_DRIVER})
    await world.add(mapped(esx), esx.secret())
    size = {"requests": {"storage": "4Mi"}}
    pvc = {"accessModes": ["ReadWriteOnce"], "storageClassName": "slow", "resources": size}
    with web() as server:
        server.answers["/disk.img"] = Answer(CONTENT)
        spec = {"source": {"http": {"url": server.url("/disk.img")}}, "pvc": pvc}
        whole = {"apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume", "spec": spec}
        volume = {**whole, "metadata": {"name": "data", "namespace": "default"}}
        await world.client.create(DATAVOLUMES, volume)
        await world.until(DATAVOLUMES, "data", lambda one: phase(one) == "Succeeded")
    claim = await world.until(PVCS, "data", lambda one: phase(one) == "Bound")
    name = f"polyvisor-pvc-{claim['metadata']['uid']}"
    assert (esx.datastore / name / f"{name}-flat.vmdk").read_bytes() == CONTENT + bytes(2 << 20)
    assert world.agent is not None
    asked = ("default", "data", tmp_path / "fetched", lambda _: None, threading.Event())
    assert await asyncio.to_thread(world.agent.fetch, *asked) == "raw"
    assert (tmp_path / "fetched").read_bytes() == CONTENT + bytes(2 << 20)


async def test_a_claim_of_this_machine_is_copied_into_the_datastore_as_a_move_does(world: World, esx: EsxHost) -> None:
    made = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "slow"}}
    await world.client.create(STORAGE_CLASSES, {**made, "provisioner": ENDPOINT_CSI_DRIVER})
    await world.add(mapped(esx), esx.secret())
    folder = world.volumes / "default" / "here"
    folder.mkdir(parents=True)
    (folder / "disk.img").write_bytes(CONTENT)
    size = {"requests": {"storage": "2Mi"}}
    here = {"accessModes": ["ReadWriteOnce"], "resources": size}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": here}
    await world.client.create(PVCS, {**claim, "metadata": {"name": "here", "namespace": "default"}})
    spec = {"source": {"pvc": {"namespace": "default", "name": "here"}}, "pvc": {**here, "storageClassName": "slow"}}
    whole = {"apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume", "spec": spec}
    await world.client.create(DATAVOLUMES, {**whole, "metadata": {"name": "there", "namespace": "default"}})
    await world.until(DATAVOLUMES, "there", lambda one: phase(one) == "Succeeded")
    copied = await world.until(PVCS, "there", lambda one: phase(one) == "Bound")
    name = f"polyvisor-pvc-{copied['metadata']['uid']}"
    assert (esx.datastore / name / f"{name}-flat.vmdk").read_bytes() == CONTENT
    assert not list(world.volumes.parent.glob("e/filling/default/*"))
