"""What real Kubernetes makes of our resource definitions, seen by kubectl and by our own client."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyvisor.api import Obj
from polyvisor.api.resources import VMIS, VMS
from polyvisor.kube import ApiError, Informer, KubeClient
from polyvisor.kube.tasks import end_task
from tests.e2e.cluster import Cluster, cluster
from tests.e2e.goprograms import NoGo
from tests.needs import unmet

pytestmark = pytest.mark.e2e
CRDS = Path(__file__).resolve().parents[2] / "deploy" / "crds"
VM = """
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: web}
spec:
  runStrategy: Halted
  template:
    spec:
      hypervisor: {driver: lxc}
      domain: {memory: {guest: 64Mi}, devices: {}}
"""


@pytest.fixture(scope="module")
def kubernetes() -> Iterator[Cluster]:
    try:
        with cluster() as one:
            one.kubectl("apply", "-f", str(CRDS))
            one.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
            deadline = time.monotonic() + 30
            while "virtualmachines" not in one.kubectl("api-resources", "--api-group=kubevirt.io", check=False):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield one
    except NoGo as missing:
        unmet(str(missing))


def test_every_definition_is_structural(kubernetes: Cluster) -> None:
    found = json.loads(kubernetes.kubectl("get", "crd", "-o", "json"))["items"]
    assert len(found) >= 3
    for crd in found:
        conditions = {each["type"]: each["status"] for each in crd["status"]["conditions"]}
        assert conditions["Established"] == "True"
        assert conditions["NamesAccepted"] == "True"
        assert "NonStructuralSchema" not in conditions


def test_short_names_columns_and_documentation(kubernetes: Cluster) -> None:
    kubernetes.kubectl("apply", "-f", "-", stdin=VM)
    assert kubernetes.kubectl("get", "vm").split()[:4] == ["NAME", "AGE", "STATUS", "READY"]
    assert kubernetes.kubectl("get", "vmi", check=False)
    told = kubernetes.kubectl("explain", "vm.spec.template.spec.hypervisor")
    assert "anyOf" in told
    assert "virtType" in told
    kubernetes.kubectl("delete", "vm", "web")


def test_server_side_apply_tells_writers_apart(kubernetes: Cluster) -> None:
    kubernetes.kubectl("apply", "--server-side", "--field-manager=one", "-f", "-", stdin=VM)
    other = VM.replace("Halted", "Always")
    refused = kubernetes.kubectl("apply", "--server-side", "--field-manager=two", "-f", "-", stdin=other, check=False)
    assert 'conflict with "one"' in refused
    assert ".spec.runStrategy" in refused
    kubernetes.kubectl("delete", "vm", "web")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("memory: {guest: 64Mi}", "memory: {guest: [1]}"), "spec.template.spec.domain.memory.guest"),
        (("runStrategy: Halted", "runStrategy: 7"), "spec.runStrategy"),
    ],
)
def test_the_schema_refuses_what_has_another_shape(kubernetes: Cluster, change: tuple[str, str], told: str) -> None:
    said = kubernetes.kubectl("create", "--validate=strict", "-f", "-", stdin=VM.replace(*change), check=False)
    assert told in said, said


def test_no_field_is_dropped_on_the_way_to_the_webhook(kubernetes: Cluster) -> None:
    kubernetes.kubectl("apply", "-f", "-", stdin=VM.replace("devices: {}", "devices: {}, watchdogg: {}"))
    assert "watchdogg" in kubernetes.kubectl("get", "vm", "web", "-o", "yaml")
    kubernetes.kubectl("delete", "vm", "web")


def test_our_client_reads_writes_and_watches(kubernetes: Cluster) -> None:
    asyncio.run(_life(kubernetes.kubeconfig))


async def _life(kubeconfig: Path) -> None:
    vmi: Obj = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "seen", "namespace": "default"},
        "spec": {"domain": {"memory": {"guest": "64Mi"}, "devices": {}}},
    }
    async with KubeClient.from_kubeconfig(kubeconfig) as client:
        informer = Informer(client, VMIS)
        task = asyncio.create_task(informer.run())
        await informer.synced()
        made = await client.create(VMIS, vmi)
        await informer.wait_until(lambda seen: seen.get("default", "seen"), 20)
        made["status"] = {"phase": "Running"}
        done = await client.update_status(VMIS, made)
        assert done["status"]["phase"] == "Running"
        await informer.wait_until(lambda seen: (seen.get("default", "seen") or {}).get("status"), 20)
        with pytest.raises(ApiError) as caught:
            await client.update_status(VMIS, made)
        assert caught.value.conflict
        await client.patch(VMIS, "seen", {"metadata": {"labels": {"a": "b"}}}, "default")
        assert [each["metadata"]["name"] for each in await client.list(VMIS, "default", label_selector="a=b")] == [
            "seen"
        ]
        await client.delete(VMIS, "seen", "default")
        await informer.wait_until(lambda seen: seen.get("default", "seen") is None or None, 20)
        with pytest.raises(ApiError) as caught:
            await client.get(VMS, "none", "default")
        assert caught.value.not_found
        await end_task(task)


def test_our_client_lives_through_a_restart_of_the_api_server(kubernetes: Cluster) -> None:
    asyncio.run(_restart(kubernetes))


async def _restart(kubernetes: Cluster) -> None:
    async with KubeClient.from_kubeconfig(kubernetes.kubeconfig) as client:
        informer = Informer(client, VMS)
        task = asyncio.create_task(informer.run())
        await informer.synced()
        await asyncio.to_thread(kubernetes.stop, "kube-apiserver", kill=True)
        await asyncio.to_thread(kubernetes.start, "kube-apiserver")
        await asyncio.to_thread(kubernetes.kubectl, "apply", "-f", "-", stdin=VM)
        await informer.wait_until(lambda seen: seen.get("default", "web"), 60)
        await end_task(task)
