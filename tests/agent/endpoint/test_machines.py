"""Machines on real hosts: libvirt's daemon, guests that boot from images which were uploaded to it."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from polyvisor.agent.images import ImageStore
from polyvisor.agent.streams import ByteStream
from polyvisor.api import Obj
from polyvisor.api.resources import ENDPOINTS, NAMESPACES, NODES, PODS, VMIS, VMS
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.qemu import boot_sector
from polyvisor.kube import ApiError
from polyvisor.server.node import NodeError
from polyvisor.standalone.local_node import LocalNode
from tests import kept
from tests.agent.conftest import Layout, folder, member, tar
from tests.agent.endpoint.hosts import GUEST, HypervisorHost
from tests.agent.endpoint.test_hosts import by_socket, by_ssh, by_tls, ssh_secret, tls_secret
from tests.agent.endpoint.world import World, condition, installed, phase, reason
from tests.folders import short_folder

pytestmark = pytest.mark.root
REACHABLE = "HypervisorReachable"
IMAGE = "localhost/tests/boot-sector:1"
KERNEL = {"image": "localhost/polyvisor/demo-kernel:1", "kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd.img"}
DEMO = {
    "domain": {
        "memory": {"guest": "128Mi"},
        "firmware": {"kernelBoot": {"kernelArgs": "console=ttyS0 quiet", "container": KERNEL}},
    },
    "volumes": [
        {"name": "data", "containerDisk": {"image": "localhost/polyvisor/demo-disk:1"}},
        {"name": "scratch", "emptyDisk": {"capacity": "16Mi"}},
        {"name": "seed", "cloudInitNoCloud": {"userData": "#cloud-config\nhostname: from-afar\n"}},
    ],
}
DISK = {"name": "root", "containerDisk": {"image": IMAGE}}
POOL = {"storageClass": "images", "pool": "images", "defaultForImages": True}


@pytest.fixture(scope="session")
def pool(host: HypervisorHost) -> str:
    """A storage pool of the host."""
    host.virsh("pool-define-as", "images", "dir", "--target", "/var/lib/libvirt/images")
    host.virsh("pool-build", "images")
    host.virsh("pool-start", "images")
    return "images"


@pytest.fixture(autouse=True)
def clean(host: HypervisorHost) -> Iterator[None]:
    """Leave no domain to the next test, whatever became of this one."""
    yield
    for name in domains(host):
        host.run("virsh", "-q", "-c", "qemu:///system", "destroy", name)
        host.run("virsh", "-q", "-c", "qemu:///system", "undefine", name)


@pytest.fixture
async def world(drivers: DriverRegistry, tmp_path: Path) -> AsyncIterator[World]:
    shutil.copytree(kept.guest_images(), tmp_path / "images")
    layout = Layout(tmp_path / "images")
    layout.manifests = json.loads((tmp_path / "images" / "index.json").read_text())["manifests"]
    disk = boot_sector.write_disk(tmp_path / "disk.img").read_bytes()
    layout.image(IMAGE, tar(folder("disk"), member("disk/disk.img", disk)))
    images = ImageStore(tmp_path / "images", tmp_path / "cache")
    with short_folder() as short:
        async with installed(short, drivers, images) as found:
            yield found


def mapped(endpoint: Obj) -> Obj:
    return {**endpoint, "spec": {**endpoint["spec"], "storage": [POOL]}}


def volumes(host: HypervisorHost) -> list[str]:
    return sorted(line.split()[0] for line in host.virsh("vol-list", "images").splitlines())


def domains(host: HypervisorHost, scheme: str = "qemu") -> list[str]:
    return host.virsh("list", "--all", "--name", scheme=scheme).split()


async def console_of(world: World, vmi: Obj, wanted: bytes) -> bytes:
    """Read a console's log until it says what is wanted."""
    node = LocalNode()
    node.endpoints = world.agent
    pods = await world.client.list(PODS, "default")
    pod = next(one for one in pods if one["metadata"]["uid"] in vmi["status"]["activePods"])
    said = b""
    try:
        async with asyncio.timeout(120):
            async for chunk in node.read_log(pod, "guest-console-log", follow=True, tail=None):
                said += chunk
                if wanted in said:
                    return said
    except TimeoutError:
        pytest.fail(f"the console does not say {wanted!r}: {said[-2000:]!r}")
    raise AssertionError(said)


@pytest.mark.parametrize("transport", ["unix", "ssh", "tls"])
async def test_a_guest_boots_from_an_image_that_was_brought_to_its_host(
    world: World, host: HypervisorHost, pool: str, transport: str
) -> None:
    ways = {
        "unix": (by_socket(host), None),
        "ssh": (by_ssh(host), ssh_secret(host)),
        "tls": (by_tls(host), tls_secret(host.authority)),
    }
    endpoint, secret = ways[transport]
    await world.add(mapped(endpoint), secret)
    await world.create("web", "rack4", volumes=[DISK])
    vmi = await world.running("web")
    assert vmi["status"]["nodeName"] == "endpoint-rack4"
    hypervisor = vmi["status"]["hypervisor"]
    assert (hypervisor["driver"], hypervisor["endpoint"]) == ("qemu", "rack4")
    assert hypervisor["domain"]["name"] == "default_web"
    assert hypervisor["version"]
    assert boot_sector.DONE in await console_of(world, vmi, boot_sector.DONE)
    assert domains(host) == ["default_web"]
    uid = vmi["metadata"]["uid"]
    assert f"polyvisor-{uid}-root.qcow2" in volumes(host)
    await world.delete("web")
    await world.gone("web")
    assert domains(host) == []
    assert not [name for name in volumes(host) if uid in name]


class Shell:
    """A guest's console as one who types there has it."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._heard = b""

    async def until(self, pattern: bytes) -> re.Match[bytes]:
        async with asyncio.timeout(60):
            while not (found := re.search(pattern, self._heard)):
                data = await self._stream.read()
                assert data, self._heard
                self._heard += data
        self._heard = self._heard[found.end() :]
        return found

    async def says(self, command: str, pattern: bytes) -> re.Match[bytes]:
        await self._stream.write(command.encode() + b"\n")
        return await self.until(pattern)


def node_of(world: World) -> LocalNode:
    node = LocalNode()
    node.endpoints = world.agent
    return node


async def test_a_guest_with_kernel_disks_and_cloud_init_is_used_and_powers_itself_off(
    world: World, host: HypervisorHost, pool: str
) -> None:
    await world.add(mapped(by_ssh(host)), ssh_secret(host))
    await world.create("demo", "rack4", **DEMO)
    vmi = await world.running("demo")
    said = await console_of(world, vmi, b"host name from-afar")
    assert b"Linux" in said or b"polyvisor-demo" in said
    shell = Shell(await node_of(world).open(vmi, "console"))
    await shell.says("", rb"login: ")
    await shell.says("root", rb"# ")
    assert await shell.says("hostname", rb"from-afar\r")
    sizes = await shell.says("cat /sys/block/vd?/size | tr '\\n' ' '; echo end", rb"(\d+) (\d+) [\d ]*end")
    assert int(sizes[2]) * 512 == 16 << 20
    await node_of(world).ask(vmi, "pause")
    await world.until(VMIS, "demo", lambda one: condition(one, "Paused") == "True")
    await node_of(world).ask(vmi, "unpause")
    await world.until(VMIS, "demo", lambda one: condition(one, "Paused") == "")
    await shell.says("poweroff", rb"poweroff")
    await world.until(VMIS, "demo", lambda one: phase(one) == "Succeeded")
    await world.until(
        PODS, vmi_pod(vmi, await world.client.list(PODS, "default")), lambda pod: phase(pod) == "Succeeded"
    )
    assert domains(host) == []
    assert not [name for name in volumes(host) if vmi["metadata"]["uid"] in name]
    await world.delete("demo")
    await world.gone("demo")


def vmi_pod(vmi: Obj, pods: list[Obj]) -> str:
    return next(str(p["metadata"]["name"]) for p in pods if p["metadata"]["uid"] in vmi["status"]["activePods"])


async def test_a_guest_goes_on_without_the_agent_and_is_found_again(
    world: World, host: HypervisorHost, pool: str
) -> None:
    await world.add(mapped(by_ssh(host)), ssh_secret(host))
    await world.create("web", "rack4", volumes=[DISK])
    before = await world.running("web")
    number = host.virsh("domid", "default_web")
    with pytest.raises(ApiError, match="endpoint rack4 has virtual machines on its host: default/web"):
        await world.client.delete(ENDPOINTS, "rack4")
    await world.stop_agent()
    assert host.virsh("domid", "default_web") == number
    await world.start_agent()
    stopped = {"metadata": {"annotations": {"hypervisor.kubevirt.io/drivers": ""}}}
    await world.client.patch(NODES, "endpoint-rack4", stopped)
    await world.until(NODES, "endpoint-rack4", lambda one: "qemu" in str(one["metadata"]["annotations"]), None)
    after = await world.client.get(VMIS, "web", "default")
    assert after["status"]["phaseTransitionTimestamps"] == before["status"]["phaseTransitionTimestamps"]
    assert host.virsh("domid", "default_web") == number
    await world.delete("web")
    await world.gone("web")
    await world.client.delete(ENDPOINTS, "rack4")


async def test_a_host_that_is_away_says_nothing_of_its_guests(world: World, host: HypervisorHost, pool: str) -> None:
    await world.add(mapped(by_tls(host)), tls_secret(host.authority))
    await world.create("web", "rack4", volumes=[DISK])
    await world.running("web")
    number = host.virsh("domid", "default_web")
    host.kill_daemon()
    try:
        vmi = await world.until(VMIS, "web", lambda one: condition(one, "Ready") == "Unknown")
        assert reason(vmi, "Ready") == "EndpointUnreachable"
        assert phase(vmi) == "Running"
        away = await world.until(
            NODES, "endpoint-rack4", lambda one: condition(one, "HypervisorReachable") == "False", None
        )
        assert condition(away, "Ready") == "True"
        assert "hypervisor.kubevirt.io/unreachable" in [one["key"] for one in away["spec"]["taints"]]
    finally:
        host.start_daemon()
    await world.until(VMIS, "web", lambda one: condition(one, "Ready") == "True")
    assert host.virsh("domid", "default_web") == number
    await world.delete("web")
    await world.gone("web")


async def test_a_machine_deleted_while_its_host_is_away_waits_or_is_fenced(
    world: World, host: HypervisorHost, pool: str
) -> None:
    await world.add(mapped(by_socket(host)))
    for name in ("waits", "fenced"):
        await world.create(name, "rack4", volumes=[DISK])
        await world.running(name)
    host.kill_daemon()
    try:
        for name in ("waits", "fenced"):
            await world.delete(name)
            vmi = await world.until(VMIS, name, lambda one: reason(one, "Synchronized") == "EndpointUnreachable")
            message = next(c["message"] for c in vmi["status"]["conditions"] if c["type"] == "Synchronized")
            assert f"polyvisor endpoint fence rack4 default/{name}" in message
        word = {"metadata": {"annotations": {"hypervisor.kubevirt.io/fenced": "true"}}}
        await world.client.patch(VMIS, "fenced", word, "default")
        await world.gone("fenced", pods=False)
    finally:
        host.start_daemon()
    await world.gone("waits")
    assert domains(host) == ["default_fenced"]
    host.virsh("destroy", "default_fenced")
    host.virsh("undefine", "default_fenced")


async def test_domains_of_others_are_never_touched(world: World, host: HypervisorHost, pool: str) -> None:
    host.create(GUEST.format(kind="qemu", name="default_web"))
    try:
        await world.add(mapped(by_socket(host)))
        await world.create("web", "rack4", volumes=[DISK])
        vmi = await world.running("web")
        assert vmi["status"]["hypervisor"]["domain"]["name"] == f"default_web-{vmi['metadata']['uid'][:8]}"
        taken = host.virsh("domuuid", "default_web")
        await world.create("other", "rack4", volumes=[DISK], domain={"firmware": {"uuid": taken}})
        other = await world.until(VMIS, "other", lambda one: phase(one) == "Failed")
        assert "which is not this machine's" in str(other["status"]["conditions"])
        for name in ("web", "other"):
            await world.delete(name)
        await world.gone("web")
        await world.gone("other")
        assert domains(host) == ["default_web"]
        assert host.virsh("domstate", "default_web") == "running"
    finally:
        host.virsh("destroy", "default_web")


async def test_a_machine_that_may_not_go_to_an_endpoint_is_refused(world: World, host: HypervisorHost) -> None:
    await world.add(
        {
            **by_socket(host),
            "spec": {**by_socket(host)["spec"], "allowedNamespaces": {"selector": {"matchLabels": {"a": "b"}}}},
        }
    )
    with pytest.raises(ApiError, match="namespace default may not use endpoint rack4"):
        await world.create("web", "rack4", volumes=[DISK])
    with pytest.raises(ApiError, match="there is no HypervisorEndpoint 'rack5'"):
        await world.create("web", "rack5", volumes=[DISK])
    await world.client.patch(NAMESPACES, "default", {"metadata": {"labels": {"a": "b"}}})
    with pytest.raises(ApiError, match="endpoint rack4 runs qemu, and the machine asks for lxc"):
        await world.create("web", "rack4", volumes=[DISK], hypervisor={"driver": "lxc", "virtType": "lxc"})
    probe = {"guestAgentPing": {}}
    with pytest.raises(ApiError, match="there is no guest agent channel on an endpoint"):
        await world.create("web", "rack4", volumes=[DISK], livenessProbe=probe)


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
