"""What machines have on a host beside their disks: networks, names of their own; and other drivers' hosts."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator

import pytest

from polyvisor.api import Obj
from polyvisor.api.cluster_resources import PVS
from polyvisor.api.resources import ENDPOINTS, PODS, PVCS, VMIS, VMS
from polyvisor.drivers.qemu import boot_sector
from polyvisor.kube.tasks import end_task
from polyvisor.server.node import NodeError
from polyvisor.standalone.volume_binder import run_binder
from tests.agent.platform.endpoint.guests import (
    DEMO,
    DISK,
    Shell,
    console_of,
    domains,
    mapped,
    node_of,
    vmi_pod,
    volumes,
)
from tests.agent.platform.endpoint.guests import clean as clean
from tests.agent.platform.endpoint.guests import world as world
from tests.agent.platform.endpoint.hosts import HypervisorHost
from tests.agent.platform.endpoint.test_hosts import by_socket, by_ssh, ssh_secret
from tests.agent.platform.endpoint.world import World, condition, phase

pytestmark = pytest.mark.root


async def test_a_machine_of_libvirts_test_driver_lives_on_a_host(world: World, host: HypervisorHost) -> None:
    await world.add(by_ssh(host, "test", "default"), ssh_secret(host))
    await world.create("pretended", "rack4", hypervisor={"virtType": "test"})
    vmi = await world.running("pretended")
    hypervisor = vmi["status"]["hypervisor"]
    assert (hypervisor["driver"], hypervisor["domain"]["name"]) == ("test", "default_pretended")
    await node_of(world).ask(vmi, "pause")
    await world.until(VMIS, "pretended", lambda one: condition(one, "Paused") == "True")
    await world.delete("pretended")
    await world.gone("pretended")
    assert world.agent is not None
    keeper = world.agent.keeper("rack4")
    assert keeper is not None
    assert [one["name"] for one in (await keeper.ask("domains", everything=True))["domains"]] == ["test"]


async def dialled(world: World, vmi: Obj, port: int) -> Shell:
    """Return a port of a guest, once something listens there."""
    async with asyncio.timeout(60):
        while True:
            try:
                return Shell(await node_of(world).open(vmi, "port", port=port, protocol="tcp"))
            except NodeError:
                await asyncio.sleep(0.2)  # nothing tells when a guest's program listens


NETWORK = """
<network><name>lan</name><bridge name='{bridge}' stp='off'/><ip address='{net}.1' netmask='255.255.255.0'>
<dhcp><range start='{net}.2' end='{net}.9'/></dhcp></ip></network>
"""


@pytest.fixture
def lan(host: HypervisorHost) -> Iterator[str]:
    """A network of libvirt's on the host; gives the beginning of its addresses."""
    number = secrets.randbelow(250)
    net = f"10.197.{number}"
    (host.folder / "lan.xml").write_text(NETWORK.format(bridge=f"pvlan{number}", net=net))
    host.virsh("net-create", str(host.folder / "lan.xml"))
    try:
        yield net
    finally:
        host.virsh("net-destroy", "lan")


async def test_a_guest_is_joined_to_the_network_that_is_mapped_and_shows_its_address(
    world: World, host: HypervisorHost, pool: str, lan: str
) -> None:
    endpoint = mapped(by_ssh(host))
    endpoint["spec"]["networks"] = [{"name": "pod", "network": "lan", "cidrs": [f"{lan}.0/24"]}]
    await world.add(endpoint, ssh_secret(host))
    await world.create("demo", "rack4", **DEMO)
    vmi = await world.running("demo")
    assert vmi["spec"]["networks"] == [{"name": "default", "pod": {}}]
    vmi = await world.until(VMIS, "demo", lambda one: bool(one["status"]["interfaces"][0].get("ipAddress")))
    address = vmi["status"]["interfaces"][0]["ipAddress"]
    assert address.startswith(f"{lan}.")
    listed = host.virsh("domiflist", "default_demo").split()
    assert vmi["status"]["interfaces"][0]["mac"] == listed[-1]
    pod = vmi_pod(vmi, await world.client.list(PODS, "default"))
    await world.until(PODS, pod, lambda one: one["status"]["podIP"] == address)
    with pytest.raises(NodeError, match="no address of the machine is known that can be reached"):
        await node_of(world).open(vmi, "port", port=7777, protocol="tcp")
    networks = [{"name": "pod", "network": "lan", "cidrs": [f"{lan}.0/24"], "reachable": True}]
    await world.client.patch(ENDPOINTS, "rack4", {"spec": {"networks": networks}})
    shell = Shell(await node_of(world).open(vmi, "console"))
    await shell.says("", rb"login: ")
    await shell.says("root", rb"# ")
    await shell.says("echo from the guest | nc -l -p 7777 & echo $((1 + 1))", rb"2\r")
    await (await dialled(world, vmi, 7777)).until(rb"from the guest")
    await world.delete("demo")
    await world.gone("demo")


async def test_a_guest_that_somebody_ended_on_the_host_is_begun_again_as_the_same_machine(
    world: World, host: HypervisorHost, pool: str
) -> None:
    await world.add(mapped(by_ssh(host)), ssh_secret(host))
    domain = {"devices": {}, "memory": {"guest": "64Mi"}, "resources": {"requests": {"cpu": "10m"}}}
    template = {"spec": {"hypervisor": {"endpoint": "rack4", "virtType": "qemu"}, "domain": domain, "volumes": [DISK]}}
    vm = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "web", "namespace": "default"}}
    await world.client.create(VMS, {**vm, "spec": {"runStrategy": "Always", "template": template}})
    first = await world.running("web")
    uuid = host.virsh("domuuid", "default_web")
    host.virsh("destroy", "default_web")
    uid = first["metadata"]["uid"]
    second = await world.until(VMIS, "web", lambda one: one["metadata"]["uid"] != uid and phase(one) == "Running")
    assert host.virsh("domuuid", "default_web") == uuid
    assert not [name for name in volumes(host) if uid in name]
    assert [name for name in volumes(host) if second["metadata"]["uid"] in name]
    await world.client.delete(VMS, "web", "default")
    await world.gone("web")
    assert domains(host) == []


async def test_a_machine_that_names_no_endpoint_goes_to_the_one_that_fits(
    world: World, host: HypervisorHost, pool: str
) -> None:
    await world.add(mapped(by_socket(host)))
    domain = {"devices": {"autoattachPodInterface": False}, "memory": {"guest": "64Mi"}}
    spec = {"hypervisor": {"virtType": "qemu"}, "domain": domain, "volumes": [DISK]}
    vmi = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "spec": spec}
    await world.client.create(VMIS, {**vmi, "metadata": {"name": "anywhere", "namespace": "default"}})
    found = (await world.running("anywhere"))["status"]["hypervisor"]
    assert found["endpoint"] == "rack4"
    assert ("qemu", "rack4", "Chosen") in [(c["driver"], c.get("endpoint"), c["verdict"]) for c in found["candidates"]]
    assert domains(host) == ["default_anywhere"]
    await world.delete("anywhere")
    await world.gone("anywhere")


async def test_an_image_that_was_not_brought_whole_is_brought_anew(
    world: World, host: HypervisorHost, pool: str
) -> None:
    await world.add(mapped(by_ssh(host)), ssh_secret(host))
    await world.create("web", "rack4", volumes=[DISK])
    await world.running("web")
    await world.delete("web")
    await world.gone("web")
    found = [name for name in volumes(host) if name.startswith("polyvisor-image-")]
    for name in found:
        if name.endswith(".whole"):
            host.virsh("vol-delete", name, "--pool", "images")
        else:
            (host.folder / "lib" / "images" / name).write_bytes(b"cut")
    await world.create("again", "rack4", volumes=[DISK])
    vmi = await world.running("again")
    assert boot_sector.DONE in await console_of(world, vmi, boot_sector.DONE)
    await world.delete("again")
    await world.gone("again")


async def test_a_pod_that_is_no_machines_does_not_run_there(world: World, host: HypervisorHost) -> None:
    await world.add(by_socket(host))
    spec = {"nodeName": "endpoint-rack4", "containers": [{"name": "a", "image": "a"}]}
    metadata = {"name": "stray", "namespace": "default"}
    await world.client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    pod = await world.until(PODS, "stray", lambda one: phase(one) == "Failed")
    assert "runs launcher Pods of virtual machines only" in pod["status"]["message"]


async def test_a_claim_of_a_mapped_class_is_a_volume_on_the_host_that_outlives_machines(
    world: World, host: HypervisorHost, pool: str
) -> None:
    binder = asyncio.create_task(run_binder(world.client))
    try:
        await world.add(mapped(by_ssh(host)), ssh_secret(host))
        spec: Obj = {"accessModes": ["ReadWriteOnce"], "storageClassName": "images"}
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data", "namespace": "default"},
        }
        made = {**claim, "spec": {**spec, "resources": {"requests": {"storage": "20Mi"}}}}
        uid = (await world.client.create(PVCS, made))["metadata"]["uid"]
        await world.until(PVCS, "data", lambda one: phase(one) == "Bound")
        assert f"polyvisor-pvc-{uid}.qcow2" in volumes(host)
        data = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
        await world.create("web", "rack4", volumes=[DISK, data])
        await world.running("web")
        assert f"polyvisor-pvc-{uid}.qcow2" in host.virsh("domblklist", "default_web")
        await world.delete("web")
        await world.gone("web")
        assert f"polyvisor-pvc-{uid}.qcow2" in volumes(host)
        _, version = await world.client.list_with_version(PVS)
        await world.client.delete(PVCS, "data", "default")
        async with asyncio.timeout(60):
            async for event in world.client.watch(PVS, resource_version=version):
                if event.type == "DELETED":
                    break
        assert f"polyvisor-pvc-{uid}.qcow2" not in volumes(host)
    finally:
        await end_task(binder)
