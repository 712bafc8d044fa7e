"""Disks that come and go while a machine runs: seen by a real guest, and through the whole of an installation."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.live import media
from polyvisor.agent.storage.disks import DiskFile
from polyvisor.testing import Bench, Client
from tests.drivers.feature_machines import Guest
from tests.drivers.feature_run import start
from tests.folders import short_folder

from .standalone import Standalone, standalone

pytestmark = pytest.mark.e2e

SECONDS = 120
DEVICES: dict[str, Any] = {"autoattachPodInterface": False}
DOMAIN: dict[str, Any] = {"memory": {"guest": "160Mi"}, "devices": DEVICES}


@pytest.fixture(scope="module")
def guest() -> Iterator[Bench]:
    """A guest that says which disks it has whenever that changes."""
    with short_folder() as base:
        (base / "scratch").mkdir()
        one = start("watch", Guest(DOMAIN, args="then=watch"), base)
        try:
            one.says(b"FACT end", SECONDS)
            yield one
        finally:
            one.close()


def disk(folder: Path, name: str, bus: str, target: str) -> str:
    path = folder / f"{name}.img"
    path.write_bytes(f"disk-{name}".encode().ljust(1 << 20, b"\0"))
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{path}'/>"
        f"<target dev='{target}' bus='{bus}'/><alias name='ua-{name}'/></disk>"
    )


def awaited(holds: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


@pytest.mark.parametrize(("bus", "target", "seen"), [("scsi", "sda", "sda"), ("virtio", "vda", "vda")])
def test_a_guest_sees_a_disk_come_and_go(guest: Bench, bus: str, target: str, seen: str) -> None:
    name = f"on-{bus}"
    agent = Client(guest.folder)
    before = agent.result("state")["removed"]
    agent.result("attach", xml=disk(guest.folder, name, bus, target))
    guest.says(f"DISKS {seen}=disk-{name}.".encode(), SECONDS)
    assert f"ua-{name}" in agent.result("describe")["xml"]
    assert agent.ask("attach", xml=disk(guest.folder, name, bus, target))["error"]["code"] == "libvirt"
    agent.result("detach", alias=f"ua-{name}")
    awaited(lambda: agent.result("state")["removed"] > before, "the guest did not let go of the disk")
    assert f"ua-{name}" not in agent.result("describe")["xml"]
    agent.result("detach", alias=f"ua-{name}")  # once more does no harm
    last = f"DISKS {seen}=disk-{name}.".encode()
    awaited(lambda: b"DISKS." in guest.console_log().rpartition(last)[2], "the guest still has the disk")


def test_what_is_not_ours_stays(guest: Bench) -> None:
    agent = Client(guest.folder)
    assert agent.ask("detach", alias="video0")["error"]["code"] == "bad-request"
    assert agent.ask("detach", alias=None)["error"]["code"] == "bad-request"
    assert agent.ask("attach", xml="")["error"]["code"] == "bad-request"
    assert agent.ask("update", xml="")["error"]["code"] == "bad-request"
    assert agent.ask("attach", xml="<disk")["error"]["code"] == "libvirt"


def test_a_guest_sees_discs_come_and_go() -> None:
    drive = {**DOMAIN, "devices": {**DEVICES, "disks": [{"name": "drive", "cdrom": {"bus": "sata"}}]}}
    with ExitStack() as stack:
        base = stack.enter_context(short_folder())
        (base / "scratch").mkdir()
        one = start("drive", Guest(drive, args="then=watch"), base)
        stack.callback(one.close)
        one.says(b"DISKS sr0=.", SECONDS)
        agent = Client(one.folder)

        def change(name: str) -> None:
            path = base / f"{name}.iso"
            path.write_bytes(f"disc-{name}".encode().ljust(1 << 20, b"\0"))
            xml = agent.result("describe")["xml"]
            agent.result("change", xml=media.with_disc(media.found(xml)["drive"], DiskFile(path, "raw")))

        change("one")
        one.says(b"DISKS sr0=disc-one.", SECONDS)
        change("two")
        one.says(b"DISKS sr0=disc-two.", SECONDS)
        empty = one.console_log().count(b"DISKS sr0=.")
        agent.result("change", xml=media.with_disc(media.found(agent.result("describe")["xml"])["drive"], None))
        one.says_again(b"DISKS sr0=.", empty, SECONDS)
        assert agent.ask("change", xml="<disk device='disk'/>")["error"]["code"] == "bad-request"


@pytest.fixture(scope="module")
def home() -> Iterator[Standalone]:
    with standalone() as home:
        home.run("up")
        try:
            yield home
        finally:
            home.run("down")


def vm(name: str) -> dict[str, Any]:
    container = {"image": "localhost/polyvisor/demo-kernel:1", "kernelPath": "/boot/vmlinuz"}
    boot = {"kernelArgs": "console=ttyS0 quiet", "container": {**container, "initrdPath": "/boot/initrd.img"}}
    domain = {"memory": {"guest": "96Mi"}, "firmware": {"kernelBoot": boot}, "devices": {}}
    template = {"spec": {"hypervisor": {"driver": "qemu"}, "domain": domain}}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name},
        "spec": {"runStrategy": "Always", "template": template},
    }


def claim(name: str) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "8Mi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def until(home: Standalone, kind: str, name: str, holds: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    deadline = time.monotonic() + SECONDS
    while True:
        obj: dict[str, Any] = json.loads(home.run("get", kind, name, "-o", "json"))
        if holds(obj):
            return obj
        assert time.monotonic() < deadline, json.dumps(obj, indent=1)
        time.sleep(0.2)


def volumes(obj: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in (obj.get("status") or {}).get("volumeStatus") or []}


def test_volumes_are_added_and_removed_by_the_command_line(home: Standalone) -> None:
    manifest = home.folder / "vm.json"
    manifest.write_text("\n---\n".join(map(json.dumps, (vm("plug"), claim("one"), claim("two")))))
    home.run("apply", "-f", manifest)
    until(home, "vmi", "plug", lambda vmi: (vmi.get("status") or {}).get("phase") == "Running")
    home.run("addvolume", "plug", "--volume-name", "one")
    vmi = until(home, "vmi", "plug", lambda vmi: volumes(vmi).get("one", {}).get("phase") == "Ready")
    told = volumes(vmi)["one"]
    assert (told["target"], told["reason"], told["hotplugVolume"]) == ("sda", "VolumeReady", {})
    assert told["persistentVolumeClaimInfo"]["claimName"] == "one"
    assert (home.folder / "volumes/default/one/disk.img").stat().st_size == 8 << 20
    assert "volumes" not in json.loads(home.run("get", "vm", "plug", "-o", "json"))["spec"]["template"]["spec"]

    home.run("addvolume", "plug", "--volume-name", "two", "--persist")
    until(home, "vmi", "plug", lambda vmi: volumes(vmi).get("two", {}).get("phase") == "Ready")
    machine = until(home, "vm", "plug", lambda vm: vm["spec"]["template"]["spec"].get("volumes"))
    added = [{"name": "two", "persistentVolumeClaim": {"claimName": "two", "hotpluggable": True}}]
    assert machine["spec"]["template"]["spec"]["volumes"] == added
    assert not [c for c in machine["status"]["conditions"] if c["type"] == "RestartRequired"]

    home.run("removevolume", "plug", "--volume-name", "one")
    vmi = until(home, "vmi", "plug", lambda vmi: "one" not in volumes(vmi))
    assert [volume["name"] for volume in vmi["spec"]["volumes"]] == ["two"]

    home.run("restart", "plug", "--force", "--wait")
    until(home, "vmi", "plug", lambda vmi: volumes(vmi).get("two", {}).get("phase") == "Ready")
    home.run("removevolume", "plug", "--volume-name", "two", "--persist")
    until(home, "vmi", "plug", lambda vmi: "two" not in volumes(vmi))


def test_memory_is_dumped_into_a_claim(home: Standalone) -> None:
    mark = "kept-in-memory-alone"
    machine = vm("dumped")
    machine["spec"]["template"]["spec"]["domain"]["firmware"]["kernelBoot"]["kernelArgs"] += f" {mark}"
    manifest = home.folder / "dumped.json"
    manifest.write_text(json.dumps(machine))
    home.run("apply", "-f", manifest)
    until(home, "vmi", "dumped", lambda vmi: (vmi.get("status") or {}).get("phase") == "Running")

    def request(vm: dict[str, Any]) -> dict[str, Any]:
        return (vm.get("status") or {}).get("memoryDumpRequest") or {}

    home.run("memory-dump", "get", "dumped", "--claim-name", "mem", "--create-claim")
    first = request(until(home, "vm", "dumped", lambda vm: request(vm).get("phase") == "Completed"))
    assert first["startTimestamp"] <= first["endTimestamp"]
    folder = home.folder / "volumes/default/mem"
    assert [path.name for path in folder.iterdir()] == [first["fileName"]]
    content = (folder / first["fileName"]).read_bytes()
    assert content.startswith(b"\x7fELF")
    assert len(content) >= 96 << 20
    assert mark.encode() in content
    vmi = json.loads(home.run("get", "vmi", "dumped", "-o", "json"))
    assert (vmi["status"]["phase"], volumes(vmi)) == ("Running", {})
    assert not [c for c in vmi["status"]["conditions"] if c["type"] == "Paused"]

    home.run("memory-dump", "get", "dumped")
    second = request(until(home, "vm", "dumped", lambda vm: request(vm).get("phase") == "Completed"))
    assert [path.name for path in folder.iterdir()] == [second["fileName"]]
    home.run("memory-dump", "remove", "dumped")
    machine = until(home, "vm", "dumped", lambda vm: not request(vm))
    assert not machine["spec"]["template"]["spec"].get("volumes")
    assert not [c for c in machine["status"]["conditions"] if c["type"] == "RestartRequired"]
    assert (folder / second["fileName"]).exists()


def test_a_disc_is_put_in_and_taken_out_by_the_template(home: Standalone) -> None:
    machine = vm("drive")
    spec = machine["spec"]["template"]["spec"]
    spec["domain"]["devices"]["disks"] = [{"name": "drive", "cdrom": {"bus": "sata"}}]
    manifest = home.folder / "drive.json"

    def apply(claims: str) -> None:
        disc = {"name": "drive", "persistentVolumeClaim": {"claimName": claims, "hotpluggable": True}}
        spec["volumes"] = [disc] if claims else []
        manifest.write_text(json.dumps(machine))
        home.run("apply", "-f", manifest)

    def holds(claimed: str, vmi: dict[str, Any]) -> bool:
        told = volumes(vmi).get("drive", {})
        return told.get("phase") == "Ready" and told["persistentVolumeClaimInfo"]["claimName"] == claimed

    for name in ("disc", "other"):
        (home.folder / f"{name}.json").write_text(json.dumps(claim(name)))
        home.run("apply", "-f", home.folder / f"{name}.json")
    apply("")
    until(home, "vmi", "drive", lambda vmi: (vmi.get("status") or {}).get("phase") == "Running")
    for name in ("disc", "other"):
        apply(name)
        vmi = until(home, "vmi", "drive", partial(holds, name))
        assert volumes(vmi)["drive"]["target"] == "sda"
    apply("")
    vmi = until(home, "vmi", "drive", lambda vmi: "drive" not in volumes(vmi))
    assert vmi["spec"]["domain"]["devices"]["disks"][0]["name"] == "drive"
    started = json.loads(home.run("get", "vm", "drive", "-o", "json"))
    assert not [c for c in started["status"]["conditions"] if c["type"] == "RestartRequired"]
