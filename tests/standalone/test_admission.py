"""What standalone mode refuses that a cluster does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from polyvisor.api.resources import PODS, VMIS, VMS
from polyvisor.drivers import registry
from polyvisor.kube import ApiError, Connection, KubeClient
from polyvisor.process.serving import serve
from polyvisor.standalone.admission import COMPONENTS, admitter, may_write_status
from polyvisor.standalone.apiserver import create_app
from polyvisor.standalone.apiserver.store import Store

Obj = dict[str, Any]
VOLUME: Obj = {"name": "account", "serviceAccount": {"serviceAccountName": "worker"}}
SPEC: Obj = {
    "hypervisor": {"driver": "qemu"},
    "domain": {"memory": {"guest": "64Mi"}, "devices": {}},
    "volumes": [{"name": "root", "emptyDisk": {"capacity": "1Mi"}}, VOLUME],
}


@pytest.mark.parametrize("resource", [VMIS, VMS])
async def test_there_are_no_service_accounts(resource: Any, tmp_path: Path) -> None:
    spec = SPEC if resource == VMIS else {"runStrategy": "Halted", "template": {"spec": SPEC}}
    obj = {"apiVersion": "kubevirt.io/v1", "kind": resource.kind, "metadata": {"name": "m", "namespace": "n"}}
    store = Store(tmp_path / "db")
    async with store.opened():
        _, problems, _ = admitter(store, registry())("CREATE", resource, {**obj, "spec": spec}, None)
    path = "spec" if resource == VMIS else "spec.template.spec"
    found = [problem for problem in problems if "serviceAccount" in problem.field]
    assert [problem.field for problem in found] == [f"{path}.volumes[1].serviceAccount"]
    assert "no service accounts in standalone mode" in found[0].message


TOKENS = {"users": "polyvisor:admin", "ours": COMPONENTS}
FORGED = {"interfaces": [{"name": "default", "ipAddress": "169.254.169.254"}], "activePods": {"forged": "n1"}}


def machine() -> Obj:
    spec = {"domain": {"memory": {"guest": "64Mi"}, "devices": {}}, "architecture": "amd64"}
    metadata = {"name": "m", "namespace": "default"}
    return {"apiVersion": "kubevirt.io/v1", "kind": VMIS.kind, "metadata": metadata, "spec": spec}


@asynccontextmanager
async def clients(folder: Path) -> AsyncIterator[list[KubeClient]]:
    """Serve as a standalone installation does; give a user's client and a component's."""
    store = Store(folder / "db")
    async with store.opened(), AsyncExitStack() as stack:
        app = create_app(store, TOKENS, admitter(store, registry()), may_write_status=may_write_status)
        server = await stack.enter_async_context(serve(app))
        url = f"http://127.0.0.1:{server.port}"
        yield [await stack.enter_async_context(KubeClient(Connection(url, token=token))) for token in TOKENS]


async def test_status_is_written_by_the_components_alone(tmp_path: Path) -> None:
    async with clients(tmp_path) as (user, ours):
        made = await user.create(VMIS, {**machine(), "status": FORGED})
        assert made["status"] == {"phase": "Pending"}
        written = await ours.update_status(VMIS, {**made, "status": {"phase": "Running"}})
        assert written["status"] == {"phase": "Running"}
        again = await user.update(VMIS, {**written, "status": FORGED})
        assert again["status"] == {"phase": "Running"}
        patched = await user.patch(VMIS, "m", {"status": FORGED}, "default")
        assert patched["status"] == {"phase": "Running"}
        halted = {**machine(), "kind": VMS.kind, "spec": {"runStrategy": "Halted", "template": {"spec": {}}}}
        halted["spec"]["template"]["spec"] = machine()["spec"]
        await user.create(VMS, halted)
        with pytest.raises(ApiError, match="own components alone"):
            await user.patch(VMS, "m", {"status": {"ready": True}}, "default", subresource="status")
        await ours.patch(VMS, "m", {"status": {"ready": True}}, "default", subresource="status")


async def test_machines_pods_are_the_controllers_alone(tmp_path: Path) -> None:
    async with clients(tmp_path) as (user, ours):
        uid = (await user.create(VMIS, machine()))["metadata"]["uid"]
        owner = {"apiVersion": "kubevirt.io/v1", "kind": VMIS.kind, "name": "m", "uid": uid, "controller": True}
        metadata = {"name": "p", "namespace": "default", "ownerReferences": [owner]}
        spec = {"containers": [{"name": "c", "image": "x"}]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        with pytest.raises(ApiError, match="virt-controller alone"):
            await user.create(PODS, pod)
        await ours.create(PODS, pod)
        with pytest.raises(ApiError, match="virt-controller alone"):
            await user.patch(PODS, "p", {"metadata": {"ownerReferences": [{**owner, "uid": "v"}]}}, "default")
        with pytest.raises(ApiError, match="own components alone"):
            await user.patch(PODS, "p", {"status": {"phase": "Running"}}, "default", subresource="status")
        await user.patch(PODS, "p", {"metadata": {"labels": {"team": "a"}}}, "default")
        plain = {**pod, "metadata": {"name": "mine", "namespace": "default"}}
        await user.create(PODS, plain)
        with pytest.raises(ApiError, match="virt-controller alone"):
            await user.patch(PODS, "mine", {"metadata": {"labels": {"kubevirt.io": "virt-launcher"}}}, "default")
