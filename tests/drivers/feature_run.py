"""Running the guests that look at themselves: all at once, each with a launcher of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from polyvisor.admission import AdmissionContext, admit
from polyvisor.agent.images.store import ImageStore
from polyvisor.agent.storage.disks import claim_disk, claim_folder
from polyvisor.agent.storage.making import Inputs, prepare
from polyvisor.agent.storage.prepared import Prepared
from polyvisor.agent.storage.sources import Places
from polyvisor.api import VirtualMachineInstance
from polyvisor.api.resources import VMIS
from polyvisor.domain import DiskSource, DomainContext, domain_name, domain_uuid, render
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.qemu import QemuDriver
from polyvisor.launcher import metrics
from polyvisor.testing import Bench, Client
from tests.agent.conftest import Layout, member, tar
from tests.drivers.feature_guest import Facts, facts, kernel_and_initrd
from tests.drivers.feature_machines import IMAGES, KERNEL, NODE, Guest
from tests.folders import short_folder

DRIVER = QemuDriver()
SECONDS = 300


def run(guests: Mapping[str, Guest]) -> dict[str, Facts]:
    """Run every guest once, side by side, and return what each reports."""
    found = {}
    with ExitStack() as stack:
        base = stack.enter_context(short_folder())
        (base / "scratch").mkdir()
        running = {}
        for name, guest in guests.items():
            running[name] = _start(name, guest, base)
            stack.callback(running[name].close)
        live = {name: described(one) for name, one in running.items() if guests[name].until == "running"}
        for name, one in running.items():
            one.says(guests[name].end, SECONDS)
            found[name] = _report(one, guests[name].until) | {"xml": live.get(name, "")}
    return found


def described(one: Bench) -> str:
    """Return the running domain as libvirt has it."""
    client = Client(one.folder)
    xml = str(client.result("describe")["xml"])
    client.close()
    return xml


def start(name: str, guest: Guest, base: Path, more: Mapping[str, DiskSource] | None = None) -> Bench:
    """Start one guest, below a folder of its own; ``more`` are disks that are there already."""
    return _start(name, guest, base, more)


def _machine(name: str, guest: Guest) -> VirtualMachineInstance:
    """Return the machine as admission lets it through."""
    domain = dict(guest.domain)
    if guest.args is not None:
        boot = {"kernelArgs": f"console=ttyS0 quiet {guest.args}".strip(), "container": KERNEL}
        domain["firmware"] = {**domain.get("firmware", {}), "kernelBoot": boot}
    volumes = [{"name": disk, "hostDisk": {"type": "Disk", "path": f"/d/{disk}.img"}} for disk in guest.disks]
    volumes += [dict(volume) for volume in guest.volumes]
    spec = {"hypervisor": {"driver": "qemu", "virtType": "qemu"}, "domain": domain, "volumes": volumes, **guest.spec}
    metadata = {"name": name, "namespace": "real", "uid": f"0f0e0d0c-0000-4000-8000-{sum(name.encode()):012d}"}
    obj = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": metadata, "spec": spec}
    if guest.admitted:
        outcome = admit("CREATE", VMIS, obj, None, AdmissionContext({}, DriverRegistry([DRIVER])))
        assert not outcome.problems, outcome.problems
        obj = outcome.obj
    return VirtualMachineInstance.model_validate(obj)


def _start(name: str, guest: Guest, base: Path, more: Mapping[str, DiskSource] | None = None) -> Bench:
    folder = base / name
    (folder / "images").mkdir(parents=True, mode=0o700)
    vmi = _machine(name, guest)
    disks, shares = dict(more or {}), {}
    for disk, content in guest.disks.items():
        path = folder / "images" / f"{disk}.img"
        path.write_bytes(content)
        disks[disk] = DiskSource(path, "raw")
    told = [volume["name"] for volume in guest.volumes if "downwardMetrics" in volume]
    disks |= {name: DiskSource(folder / metrics.DISK, "raw", readonly=True) for name in told}
    if len(guest.volumes) > len(told):
        made = _prepared(name, guest, folder)
        disks |= {volume: DiskSource(file.path, file.format) for volume, file in made.files.items()}
        shares = made.shares
    kernel, initrd = kernel_and_initrd() if guest.args is not None else (None, None)
    sockets: dict[str, Any] = {"graphics_socket": folder / "vnc.sock", "usb_sockets": (folder / "usb0.sock",)}
    sockets["metrics_socket"] = folder / metrics.CHANNEL
    context = DomainContext("qemu", disks=disks, shares=shares, kernel=kernel, initrd=initrd, **sockets)
    plan = DRIVER.launcher(folder, base / "scratch")
    if "downwardMetrics" in guest.domain["devices"]:
        plan = replace(plan, metrics=("channel", "disk"), node=NODE)
    one = Bench(folder, plan, domain_name(vmi), domain_uuid(vmi))
    answer = one.launch().ask("start", xml=render(vmi, DRIVER, context))
    if "result" not in answer:
        one.close()
        raise AssertionError(f"{name}: {answer}")
    return one


def _prepared(name: str, guest: Guest, folder: Path) -> Prepared:
    """Make the guest's volumes ready as the agent does, with claims that were written to before."""
    places = Places(ImageStore(folder / "store", folder / "cache"), folder / "claims", folder / "hostdisks")
    claim = {"spec": {"resources": {"requests": {"storage": "1Mi"}}}}
    for each in ("dv", "below"):
        path = claim_disk(places.volumes, "real", each, 1 << 20).path
        path.write_bytes(f"disk-{each}".encode().ljust(1 << 20, b"\0"))
    (claim_folder(places.volumes, "real", "folder") / "of-the-host").write_text("a-value")
    layout = Layout(folder / "store")
    for each in IMAGES:
        layout.image(f"localhost/{each}:1", tar(member("disk/disk.img", f"disk-{each}".encode().ljust(1 << 20, b"\0"))))
    inputs = Inputs(
        secrets={"words": {"password": b"a-secret"}},
        claims=dict.fromkeys(("dv", "below", "folder"), claim),
        configmaps={"maps": {"Some.Key": b"a-value"}, "answers": {"autounattend.xml": b"<unattend/>"}},
        pod={"metadata": {"name": f"virt-launcher-{name}"}},
    )
    machine = {
        "metadata": {"name": name, "namespace": "real"},
        "spec": {"volumes": list(guest.volumes), "domain": guest.domain},
    }
    return prepare(machine, DRIVER, folder / "images", places, inputs)


def _report(one: Bench, until: str) -> Facts:
    """Return the facts, and beside them the console's whole text, the state at the end and the host's clock."""
    state = Client(one.folder).until(until)["state"]
    said = one.console_log()
    return facts(said) | {"console": said.decode(errors="replace"), "state": state, "now": str(int(time.time()))}
