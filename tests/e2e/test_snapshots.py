"""Snapshots and restores of a real guest, standalone: its disks are those of one moment while it goes on writing."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from polyvisor.cli.client import Client

from .guest_shell import Shell, shell
from .standalone import KERNEL, Standalone, standalone

pytestmark = pytest.mark.e2e

SECONDS = 180
WRITER = (
    "(n=0; while :; do n=$((n+1)); for d in vda vdb; do "
    "printf '%-511s\\n' $n | dd of=/dev/$d bs=512 count=1 conv=notrunc,fsync 2>/dev/null; done; done) &"
)
"""Writes one number after the other, each to the one disk and then to the other."""


def vm(name: str, *claims: str) -> dict[str, Any]:
    boot = {"kernelArgs": "console=ttyS0 quiet", "container": KERNEL}
    disks = [{"name": claim, "disk": {"bus": "virtio"}} for claim in claims]
    devices = {"autoattachPodInterface": False, "disks": disks}
    domain = {"memory": {"guest": "96Mi"}, "firmware": {"kernelBoot": boot}, "devices": devices}
    volumes = [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims]
    spec = {"hypervisor": {"driver": "qemu"}, "terminationGracePeriodSeconds": 0, "domain": domain, "volumes": volumes}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name},
        "spec": {"runStrategy": "Always", "template": {"spec": spec}},
    }


def claim(name: str) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def snapshot(name: str, of: str) -> dict[str, Any]:
    source = {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": of}
    metadata = {"name": name}
    kind = {"apiVersion": "snapshot.kubevirt.io/v1beta1", "kind": "VirtualMachineSnapshot"}
    return {**kind, "metadata": metadata, "spec": {"source": source}}


def restore(name: str, of: str, to: str, **spec: Any) -> dict[str, Any]:
    target = {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": to}
    kind = {"apiVersion": "snapshot.kubevirt.io/v1beta1", "kind": "VirtualMachineRestore"}
    return {**kind, "metadata": {"name": name}, "spec": {"target": target, "virtualMachineSnapshotName": of, **spec}}


@pytest.fixture(scope="module")
def home() -> Iterator[Standalone]:
    with standalone() as home:
        home.run("up")
        try:
            yield home
        finally:
            home.run("down")


def apply(home: Standalone, *objects: dict[str, Any]) -> None:
    path = home.folder / "objects.json"
    path.write_text("\n---\n".join(map(json.dumps, objects)))
    home.run("apply", "-f", path)


def until(home: Standalone, kind: str, name: str, holds: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    deadline = time.monotonic() + SECONDS
    while True:
        obj: dict[str, Any] = json.loads(home.run("get", kind, name, "-o", "json"))
        if holds(obj):
            return obj
        assert time.monotonic() < deadline, json.dumps(obj, indent=1)
        time.sleep(0.2)


def running(home: Standalone, name: str) -> None:
    until(home, "vm", name, lambda vm: (vm.get("status") or {}).get("ready"))


def number(console: Shell, disk: str) -> int:
    """Return the number that stands on a disk."""
    first = f"dd if=/dev/{disk} bs=512 count=1 2>/dev/null | tr -dc 0-9"
    found = console.says(f'echo "on=$({first})="', rb"on=([0-9]*)=\r")
    return int(found[1] or 0)


def test_the_data_of_one_moment_come_back(home: Standalone, client: Client) -> None:
    apply(home, claim("one"), claim("two"), vm("writer", "one", "two"))
    running(home, "writer")
    with shell(client, "writer") as console:
        console.type(WRITER)
        while number(console, "vdb") < 5:
            time.sleep(0.1)
        before = number(console, "vda")
        apply(home, snapshot("moment", "writer"))
        taken = until(home, "vmsnapshot", "moment", lambda s: (s.get("status") or {}).get("readyToUse"))
        first = number(console, "vda")
        while (after := number(console, "vda")) < first + 3:  # the guest goes on
            time.sleep(0.1)
    status = taken["status"]
    assert status["phase"] == "Succeeded"
    assert status["indications"] == ["NoGuestAgent", "Online"]
    assert status["snapshotVolumes"] == {"includedVolumes": ["one", "two"]}
    machine = json.loads(home.run("get", "vm", "writer", "-o", "json"))
    assert "snapshotInProgress" not in machine["status"]
    assert machine["status"]["volumeSnapshotStatuses"] == [{"name": n, "enabled": True} for n in ("one", "two")]

    apply(home, restore("refused", "moment", "writer", targetReadinessPolicy="FailImmediate"))
    refused = until(home, "vmrestore", "refused", lambda r: "Failure" in json.dumps(r.get("status") or {}))
    assert "must be powered off before restore operation" in json.dumps(refused["status"])
    assert refused["status"].get("restores") is None
    home.run("delete", "vmrestore", "refused")

    home.run("stop", "writer", "--wait")
    apply(home, restore("back", "moment", "writer"))
    done = until(home, "vmrestore", "back", lambda r: (r.get("status") or {}).get("complete"))
    assert [entry["volumeName"] for entry in done["status"]["restores"]] == ["one", "two"]
    home.run("start", "writer")
    running(home, "writer")
    with shell(client, "writer") as console:
        one, two = number(console, "vda"), number(console, "vdb")
    assert before <= one <= after
    assert one - two in (0, 1), "the disks are not of one moment"

    apply(home, restore("other", "moment", "copy"))
    until(home, "vmrestore", "other", lambda r: (r.get("status") or {}).get("complete"))
    home.run("start", "copy")
    running(home, "copy")
    with shell(client, "copy") as console:
        assert (number(console, "vda"), number(console, "vdb")) == (one, two)


def test_a_snapshot_goes_with_what_it_holds(home: Standalone) -> None:
    assert list((home.folder / "snapshots/default").iterdir())
    home.run("delete", "vmsnapshot", "moment")
    for kind in ("vmsnapshotcontent", "vs"):
        deadline = time.monotonic() + SECONDS
        while json.loads(home.run("get", kind, "-o", "json"))["items"]:
            assert time.monotonic() < deadline, kind
            time.sleep(0.2)
    assert list((home.folder / "snapshots/default").iterdir()) == []
    apply(home, restore("late", "moment", "nobody"))
    late = until(home, "vmrestore", "late", lambda r: "does not exist" in json.dumps(r.get("status") or {}))
    assert re.search("VMSnapshot default/moment does not exist", json.dumps(late))
    home.run("delete", "vmrestore", "late")


def test_a_container_cannot_be_snapshotted_while_it_runs(home: Standalone) -> None:
    box = vm("box", "three")
    spec = box["spec"]["template"]["spec"]
    spec["hypervisor"] = {"driver": "lxc"}
    spec["domain"] = {"memory": {"guest": "64Mi"}, "devices": {"autoattachPodInterface": False}}
    spec["volumes"].insert(0, {"name": "root", "containerDisk": {"image": "localhost/polyvisor/demo-rootfs:1"}})
    apply(home, claim("three"), box)
    running(home, "box")
    apply(home, snapshot("no", "box"))
    failed = until(home, "vmsnapshot", "no", lambda s: (s.get("status") or {}).get("phase") == "Failed")
    message = failed["status"]["error"]["message"]
    assert "cannot be snapshotted while it runs" in message
    assert "stop the virtual machine; drivers that can: QEMU" in message
    assert json.loads(home.run("get", "vmsnapshotcontent", "-o", "json"))["items"] == []


def clone(name: str, of: str, to: str, **spec: Any) -> dict[str, Any]:
    source, target = ({"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": one} for one in (of, to))
    kind = {"apiVersion": "clone.kubevirt.io/v1beta1", "kind": "VirtualMachineClone"}
    return {**kind, "metadata": {"name": name}, "spec": {"source": source, "target": target, **spec}}


def test_a_running_machine_is_cloned(home: Standalone, client: Client) -> None:
    serial = "the-copy"
    apply(home, claim("four"), vm("origin", "four"))
    running(home, "origin")
    with shell(client, "origin") as console:
        console.says("echo 4711 | dd of=/dev/vda conv=fsync 2>/dev/null; echo writ''ten", rb"written")
    apply(home, clone("dolly", "origin", "twin", newSMBiosSerial=serial))
    until(home, "vmclone", "dolly", lambda c: (c.get("status") or {}).get("phase") == "Succeeded")
    home.run("start", "twin")
    running(home, "twin")
    with shell(client, "twin") as console:
        assert number(console, "vda") == 4711
        console.says("cat /sys/class/dmi/id/product_serial", serial.encode())
    uuids = [json.loads(home.run("get", "vmi", name, "-o", "json")) for name in ("origin", "twin")]
    assert len({one["spec"]["domain"]["firmware"]["uuid"] for one in uuids}) == 2
    until(home, "vmclone", "dolly", lambda c: "restoreName" not in c["status"])
    for kind in ("vmrestore", "vmsnapshot"):
        left = json.loads(home.run("get", kind, "-o", "json"))["items"]
        assert not [one for one in left if one["metadata"]["name"].startswith("tmp-")]
    with pytest.raises(AssertionError, match=r"VirtualMachine default/twin exists already"):
        apply(home, clone("again", "origin", "twin"))
