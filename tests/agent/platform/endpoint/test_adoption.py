"""Domains that somebody else began on a real host: listed, adopted, stopped, started and let go of.

The guest is a Linux that writes its uptime to its console each second. libvirt keeps what it writes in a file.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.images.store import ImageStore
from polyvisor.api.cluster_resources import PVS
from polyvisor.api.resources import PVCS, VMIS, VMS
from polyvisor.cli.app import run
from polyvisor.drivers import DriverRegistry, registry
from tests.agent.platform.endpoint.hosts import HypervisorHost
from tests.agent.platform.endpoint.test_hosts import by_socket
from tests.agent.platform.endpoint.world import World, condition, installed
from tests.cli.conftest import Result
from tests.folders import short_folder
from tests.kept import guest_images

pytestmark = pytest.mark.root
UUID = "5f3b9d1e-8e1c-4a55-9df0-9a4a5e1d0c11"
KERNEL = "localhost/polyvisor/demo-kernel:1"
TELL = "mount -t proc proc /proc; while :; do cat /proc/uptime; sleep 1; done"
LINUX = """
<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><title>The web server</title>
<memory unit='MiB'>128</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type><kernel>{kernel}</kernel><initrd>{initrd}</initrd>
<cmdline>console=ttyS0 rdinit=/bin/busybox -- sh -c "{tell}"</cmdline></os><features><acpi/><apic/></features>
<devices><disk type='file' device='disk'><driver name='qemu' type='raw'/>
<source file='/var/lib/libvirt/images/{name}.img'/><target dev='vda' bus='virtio'/></disk>
<serial type='pty'><log file='{log}'/></serial></devices></domain>
"""


class Adopting:
    """An installation, its command line, and the host whose domains it takes over."""

    def __init__(self, world: World, host: HypervisorHost, store: ImageStore, capsys: Any) -> None:
        self.world, self.host, self.store, self.capsys = world, host, store, capsys

    async def cli(self, *words: str) -> Result:
        self.capsys.readouterr()
        code = await asyncio.to_thread(run, ["--kubeconfig", str(self.world.kubeconfig), *words])
        return Result(code, *self.capsys.readouterr())

    async def done(self, *words: str) -> str:
        result = await self.cli(*words)
        assert result.code == 0, result.err
        return result.out

    def linux(self, name: str, uuid: str = UUID) -> str:
        files = {name_: self.store.file(KERNEL, f"/boot/{name_}") for name_ in ("vmlinuz", "initrd.img")}
        with (self.host.folder / "lib" / "images" / f"{name}.img").open("wb") as disk:
            disk.truncate(1 << 20)
        return LINUX.format(
            name=name,
            uuid=uuid,
            tell=TELL,
            kernel=files["vmlinuz"],
            initrd=files["initrd.img"],
            log=self.log(name),
        )

    def log(self, name: str) -> Path:
        return self.host.folder / "log" / f"{name}.console"

    async def uptime(self, name: str, above: float = 0.0) -> float:
        """Wait until the guest tells that it is up for longer than that; return the last that it told."""
        async with asyncio.timeout(90):
            while True:
                told = self.uptimes(name)
                if told and told[-1] > above:
                    return told[-1]
                await asyncio.sleep(0.2)  # nothing tells that a file has grown

    def uptimes(self, name: str) -> list[float]:
        text = self.log(name).read_text(errors="replace") if self.log(name).exists() else ""
        return [float(found) for found in re.findall(r"^(\d+\.\d\d) \d+\.\d\d\s*$", text, re.MULTILINE)]

    def process(self, name: str) -> tuple[str, str]:
        """Return process id and start time of the QEMU of a domain."""
        pid = (self.host.folder / "run" / "qemu" / f"{name}.pid").read_text().strip()
        return pid, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]

    async def stop(self, name: str) -> None:
        """Stop a machine, and wait until it could be started again."""
        await self.done("stop", name, "--force", "--wait")
        await self.world.until(
            VMS, name, lambda vm: not vm["status"].get("stateChangeRequests") and not vm["status"].get("created")
        )

    def state(self, name: str) -> str:
        return self.host.virsh("domstate", name)

    async def listed(self, name: str) -> dict[str, Any]:
        items = json.loads(await self.done("domains", "rack4", "-o", "json"))["items"]
        return next(one for one in items if one["name"] == name)

    async def management(self, name: str, wanted: str) -> dict[str, Any]:
        """Wait until a domain is managed, or foreign."""
        async with asyncio.timeout(60):
            while True:
                found = await self.listed(name)
                if found["management"] == wanted:
                    return found
                await asyncio.sleep(0.2)  # the list is asked for


@pytest.fixture
async def adopting(
    host: HypervisorHost, pool: str, drivers: DriverRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Adopting]:
    store = ImageStore(guest_images(), tmp_path / "cache")
    with short_folder() as short:
        async with installed(short, drivers, store) as world:
            await world.add(by_socket(host))
            yield Adopting(world, host, store, capsys)
    for name in host.virsh("list", "--name").split():
        host.virsh("destroy", name)
    for name in host.virsh("list", "--name", "--all").split():
        host.virsh("undefine", name)


async def test_a_running_guest_is_taken_over_and_let_go_of_without_touching_it(adopting: Adopting) -> None:
    host, world = adopting.host, adopting.world
    host.create(adopting.linux("web"), define=True)
    host.virsh("start", "web")
    before, process, number = await adopting.uptime("web", 2.0), adopting.process("web"), host.virsh("domid", "web")
    refused = await adopting.cli("adopt", "rack4/web")
    assert refused.code == 3
    remedy = "polyvisor endpoint map rack4 --storage images=images"
    assert "disk vda (/var/lib/libvirt/images/web.img) is in no mapped pool" in refused.err
    assert remedy in refused.err
    assert remedy in (await adopting.listed("web"))["adoption"]["reasons"][0]
    await adopting.done(*remedy.split()[1:])
    assert (await adopting.listed("web"))["adoption"] == {"possible": True, "reasons": []}

    planned = await adopting.cli("adopt", "rack4/web", "--dry-run")
    assert planned.code == 0, planned.err
    assert [line for line in planned.out.splitlines() if line.startswith("kind:")] == [
        "kind: VirtualMachine",
        "kind: PersistentVolume",
        "kind: PersistentVolumeClaim",
    ]
    assert "The web server" in planned.err
    assert await world.client.list(VMS, "default") == []

    said = await adopting.done("adopt", "rack4/web")
    assert said == "rack4/web is VirtualMachine default/web now; the guest runs on untouched\n"
    vmi = await world.running("web")
    assert vmi["status"]["hypervisor"]["domain"] == {"name": "web", "uuid": UUID}
    assert vmi["status"]["nodeName"] == "endpoint-rack4"
    claim = await world.client.get(PVCS, "web-vda", "default")
    assert claim["status"]["phase"] == "Bound"
    assert (await adopting.listed("web"))["machine"] == "default/web"
    assert "managed already" in (await adopting.cli("adopt", "rack4/web")).err
    assert adopting.process("web") == process
    assert host.virsh("domid", "web") == number
    during = await adopting.uptime("web", before + 1.0)

    said = await adopting.done("unmanage", "web")
    assert said == "default/web is let go of: domain web of endpoint rack4 runs on, its disks stay on the host\n"
    assert await world.client.list(VMS, "default") == []
    assert await world.client.list(PVCS, "default") == []
    assert await world.client.list(PVS) == []
    assert (await adopting.management("web", "Foreign")).get("owner") is None
    assert "polyvisor" not in host.virsh("dumpxml", "web")
    assert "polyvisor" not in host.virsh("dumpxml", "--inactive", "web")
    assert adopting.process("web") == process
    assert (host.folder / "lib" / "images" / "web.img").stat().st_size == 1 << 20
    await adopting.uptime("web", during + 1.0)
    told = adopting.uptimes("web")
    assert told == sorted(told)  # it was never begun anew


async def test_a_machine_is_stopped_and_begun_again_as_its_domain_is_defined(adopting: Adopting) -> None:
    host, world = adopting.host, adopting.world
    host.create(adopting.linux("web"), define=True)
    await adopting.done("endpoint", "map", "rack4", "--storage", "images=images")
    said = await adopting.done("adopt", "rack4/web", "--name", "site")
    assert said == "rack4/web is VirtualMachine default/site now; it stays shut off\n"
    assert (await adopting.management("web", "Managed"))["machine"] == "default/site"
    assert adopting.state("web") == "shut off"
    assert 'adopted="yes"' in host.virsh("dumpxml", "web").replace("'", '"')

    await adopting.done("start", "site", "--wait")
    await world.running("site")
    await adopting.uptime("web", 1.0)  # it has the kernel that no VirtualMachine can name
    await adopting.done("pause", "site")
    await world.until(VMIS, "site", lambda vmi: condition(vmi, "Paused") == "True")
    assert adopting.state("web") == "paused"
    await adopting.done("unpause", "site")
    await adopting.stop("site")
    assert adopting.state("web") == "shut off"
    assert (await adopting.management("web", "Managed"))["machine"] == "default/site"

    memory = {"spec": {"template": {"spec": {"domain": {"memory": {"guest": "160Mi"}}}}}}
    await world.client.patch(VMS, "site", memory, "default")
    await adopting.done("start", "site", "--wait")
    assert "<memory unit='KiB'>163840</memory>" in host.virsh("dumpxml", "web")
    assert (await adopting.listed("web"))["uuid"] == UUID
    await adopting.done("unmanage", "site")
    assert adopting.state("web") == "running"
    assert (await adopting.management("web", "Foreign")).get("owner") is None


async def test_a_guest_that_virsh_created_and_that_nobody_defined(adopting: Adopting) -> None:
    host, world = adopting.host, adopting.world
    host.create(adopting.linux("passing"))
    await adopting.done("endpoint", "map", "rack4", "--storage", "images=images")
    process = adopting.process("passing")
    await adopting.done("adopt", "rack4/passing")
    assert adopting.process("passing") == process
    assert not (await adopting.listed("passing"))["persistent"]
    assert 'adopted="yes"' in host.virsh("dumpxml", "passing").replace("'", '"')
    await adopting.stop("passing")
    assert host.virsh("list", "--all", "--name").split() == []  # as without Polyvisor
    await adopting.done("start", "passing", "--wait")
    vmi = await world.running("passing")
    assert vmi["status"]["hypervisor"]["domain"]["uuid"] == UUID


async def test_a_second_installation_sees_the_domains_of_the_first_as_foreign(adopting: Adopting) -> None:
    host = adopting.host
    host.create(adopting.linux("web"), define=True)
    await adopting.done("endpoint", "map", "rack4", "--storage", "images=images")
    await adopting.done("adopt", "rack4/web")
    with short_folder() as folder:
        async with installed(folder, registry(), adopting.store) as second:
            await second.add(by_socket(host))
            other = Adopting(second, host, adopting.store, adopting.capsys)
            await other.done("endpoint", "map", "rack4", "--storage", "images=images")
            seen = await other.listed("web")
            assert (seen["management"], seen["owner"]) == ("Foreign", adopting.world.agent.cluster)
            assert "managed by another installation" in seen["adoption"]["reasons"][0]
            refused = await other.cli("adopt", "rack4/web")
            assert (refused.code, "polyvisor unmanage" in refused.err) == (3, True)
    assert (await adopting.listed("web"))["management"] == "Managed"


async def test_several_by_a_pattern_all_or_none(adopting: Adopting) -> None:
    host = adopting.host
    for number in (1, 2):
        host.create(adopting.linux(f"web-{number}", f"{UUID[:-1]}{number}"), define=True)
    host.create(
        adopting.linux("other", f"{UUID[:-1]}5").replace("/images/other.img", "/elsewhere/other.img"), define=True
    )
    await adopting.done("endpoint", "map", "rack4", "--storage", "images=images")
    refused = await adopting.cli("adopt", "rack4", "--selector", "*")
    assert refused.code == 3
    assert "virsh pool-create-as elsewhere dir --target /var/lib/libvirt/elsewhere" in refused.err
    assert "Nothing was created or changed." in refused.err
    assert await adopting.world.client.list(VMS, "default") == []
    done = await adopting.done("adopt", "rack4", "--selector", "web-*")
    assert len(done.splitlines()) == 2
    again = await adopting.cli("adopt", "rack4", "--selector", "web-*")
    assert (again.code, "managed already" in again.err) == (4, True)


async def test_the_mark_goes_with_a_machine_that_was_never_started(adopting: Adopting) -> None:
    host = adopting.host
    host.create(adopting.linux("web"), define=True)
    await adopting.done("endpoint", "map", "rack4", "--storage", "images=images")
    await adopting.done("adopt", "rack4/web")
    await adopting.done("delete", "vm", "web")
    assert (await adopting.management("web", "Foreign")).get("owner") is None
    assert await adopting.world.client.list(PVCS, "default") == []
    await adopting.done("adopt", "rack4/web")  # the volume that was left is taken again
