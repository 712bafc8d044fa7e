"""What root in a container tries against its node, in a real container that an agent's XML describes; all of it fails.

Each attack was seen to succeed in a container without a user namespace, but for the loading of a module.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyvisor.agent.images.store import ImageStore
from polyvisor.agent.live.render import domain_xml
from polyvisor.agent.storage.prepared import Prepared
from polyvisor.drivers.lxc import LxcDriver
from polyvisor.prerequisites import advised
from polyvisor.testing import bench
from tests.drivers.feature_guest import END, Facts, facts
from tests.drivers.kit import machine
from tests.needs import absent, unmet

DRIVER = LxcDriver()
ROOTFS = "localhost/polyvisor/demo-rootfs:1"
SECRET = "of mode 0600 on the node"
INIT = r"""#!/bin/busybox sh
export PATH=/bin:/sbin
b=/bin/busybox
fact() { echo "FACT $*"; }
tried() { name=$1; shift; "$@" >/tmp/said 2>&1 && fact "$name" done || { fact "$name" failed; cat /tmp/said; }; }
own() { sed -n "s|^[0-9]*:$1:||p" /proc/self/cgroup; }
again() { v=$(cat "$1") && echo "$v" >"$1"; }
fact group "$(own name=systemd)"
fact ids $(cat /proc/self/uid_map)
fact seccomp $(sed -n 's/^Seccomp:[^0-9]*//p' /proc/self/status)
fact caps $(sed -n 's/^CapBnd:[^0-9a-f]*//p' /proc/self/status)
$b mount -o remount,rw,bind /proc/sys
tried core_pattern again /proc/sys/kernel/core_pattern
tried overcommit again /proc/sys/vm/overcommit_memory
group=/sys/fs/cgroup/devices$(own devices)
allow() { echo "b DISK rwm" >"$group/devices.allow"; }
tried devices.allow allow
limit=/sys/fs/cgroup/memory$(own memory)/memory.limit_in_bytes
tried memory.limit again "$limit"
tried mknod mknod /tmp/disk b $(echo DISK | tr : ' ')
disk=/tmp/disk
[ -b $disk ] || disk=/left-in-the-image
mkdir /tmp/host
host() { $b mount -t FSTYPE $disk /tmp/host; }
tried mount.disk host
tried read.secret cat /tmp/host/SECRET
fact secret "$(cat /tmp/host/SECRET)"
for agent in /sys/fs/cgroup/*/release_agent; do tried release_agent again "$agent"; done
mkdir /tmp/groups
groups() { $b mount -t cgroup -o memory none /tmp/groups && again /tmp/groups/release_agent; }
tried mount.release_agent groups
head -c 4096 /dev/zero >/tmp/module.ko
tried module $b insmod /tmp/module.ko
tried kernel.log dmesg
seen() { [ -e "/proc/$1" ] && dd if="/proc/$1" bs=1 count=1 2>/dev/null; }
for file in kcore timer_list keys interrupts; do fact hidden "$(seen $file)"; done
tried sysfs again /sys/module/printk/parameters/time
$b mount -o remount,rw /sys
tried sysfs.remounted again /sys/module/printk/parameters/time
: >/tmp/written
ln -s /tmp/written /dev/initctl
trap 'fact written "$(wc -c </tmp/written)"' USR2
fact end
while :; do sleep 0.1; done
"""
ATTACKS = (
    *("core_pattern", "overcommit", "devices.allow", "memory.limit", "mknod", "mount.disk"),
    *("read.secret", "release_agent", "mount.release_agent", "module", "kernel.log"),
    *("sysfs", "sysfs.remounted"),
)
GONE = {"dac_read_search": 2, "sys_module": 16, "sys_rawio": 17, "mknod": 27}
SYS_ADMIN = 21


def disk() -> tuple[str, str, Path]:
    """Return number and kind of a file system of this machine on a disk, and a folder on it."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        _, _, number, _, place, *_ = before.split()
        kind, source, _ = after.split(" ", 2)
        if source.startswith("/dev/") and Path(place).is_dir() and not number.startswith("0:"):
            return number, kind, Path(place)
    return unmet("no file system of this machine is on a disk")


@pytest.fixture(scope="module")
def secret() -> Iterator[tuple[str, str, Path]]:
    number, kind, place = disk()
    file = place / f"polyvisor-secret-{os.getpid()}"
    file.write_text(SECRET)
    file.chmod(0o600)
    yield number, kind, file.relative_to(place)
    file.unlink()


@pytest.fixture(scope="module")
def report(store: ImageStore, tmp_path_factory: pytest.TempPathFactory, secret: tuple[str, str, Path]) -> Facts:
    """Run the container once, then ask it to shut down."""
    base = tmp_path_factory.mktemp("container")
    (base / "scratch").mkdir()
    if not (probed := DRIVER.probe(base / "scratch")).available:
        unmet(f"LXC does not work here: {advised(DRIVER.name, probed.reason)}")
    root = base / "root"
    subprocess.run(["cp", "-a", "-T", store.tree(ROOTFS), root], check=True)
    number, kind, file = secret
    text = INIT.replace("DISK", number).replace("FSTYPE", kind).replace("SECRET", str(file))
    (root / "sbin" / "init").unlink()
    (root / "sbin" / "init").write_text(text)
    (root / "sbin" / "init").chmod(0o755)
    shutil.copy(shutil.which("busybox") or store.tree(ROOTFS) / "bin" / "busybox", root / "bin" / "busybox")
    os.mknod(root / "left-in-the-image", stat.S_IFBLK | 0o666, os.makedev(*map(int, number.split(":"))))
    vmi = machine(DRIVER)
    plain = {**vmi.model_dump(by_alias=True, exclude_none=True), "status": {"hypervisor": {"virtType": "lxc"}}}
    with bench(DRIVER, vmi, base / "scratch") as one:
        client = one.launch()
        xml = domain_xml(plain, DRIVER, Prepared(root=root, root_volume="root"), one.folder)
        assert client.result("start", xml=xml)["state"] == "running"
        one.says(END)
        client.result("shutdown")
        one.says(b"FACT written")  # it goes on, since an end may come before its last words
        return facts(one.console_log())


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_fails(attack: str, report: Facts) -> None:
    assert set(report[attack].split()) <= {"failed"}, json.dumps(report, indent=1)


def test_root_is_an_ordinary_user_of_the_node(report: Facts) -> None:
    inside, first, count = map(int, report["ids"].split())
    assert (inside, count) == (0, 65536)
    assert first >= 0x70000000


def test_no_control_group_of_the_node_becomes_the_containers(report: Facts) -> None:
    """libvirt gives a container's root the group of systemd's hierarchy in which libvirt runs."""
    top = Path("/sys/fs/cgroup/systemd")
    if not top.exists():
        absent("control groups v1", "systemd's hierarchy is mounted with control groups of version 1 alone")
    assert report["group"].startswith("/polyvisor-")
    others = [path for path in (top, *top.iterdir()) if not path.name.startswith("polyvisor-")]
    assert [path for path in others if path.stat().st_uid] == []
    assert not (top / report["group"].lstrip("/")).exists(), "it is left behind"


def test_the_nodes_secret_and_what_its_kernel_tells_are_not_seen(report: Facts) -> None:
    assert report["secret"] == ""
    assert report["hidden"].strip() == ""


def test_a_shutdown_does_not_write_where_a_link_of_the_container_leads(report: Facts) -> None:
    """libvirt's initctl would, as the node's root."""
    assert report["written"] == "0"


def test_capabilities_are_few_and_system_calls_filtered(report: Facts) -> None:
    """Those that reach the kernel are gone; systemd's own sandboxes need sys_admin, which holds in the namespace."""
    bounds = int(report["caps"], 16)
    assert [name for name, number in GONE.items() if bounds >> number & 1] == []
    assert bounds >> SYS_ADMIN & 1
    assert report["seccomp"].split()[0] == "2"
