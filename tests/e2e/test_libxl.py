"""What libvirt's own Xen driver tells Xen of machines that Polyvisor rendered.

The driver opens on a Xen host alone, so one is played (``libxl_played.c``). From the XML to the structure that libxl is
told to create, everything is libvirt's and libxl's own code.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import libvirt
import pytest

from polyvisor.domain import DiskSource, DomainContext, render
from polyvisor.drivers.verdict import unsupported
from polyvisor.drivers.xen import XenDriver
from polyvisor.launcher.daemon import Daemon
from polyvisor.launcher.plan import read_plan
from polyvisor.testing import Case, corpus
from tests.drivers.kit import machine

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.proof,
    pytest.mark.root,
]
DRIVER = XenDriver()
MODULE = Path("/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_libxl.so")
BINDS = {f"/{top}/libvirt": name for top, name in (("run", "run"), ("var/lib", "lib"), ("var/log", "log"))}
KERNEL = {"kernelBoot": {"container": {"image": "k", "kernelPath": "/k"}, "kernelArgs": "root=/dev/xvda"}}


@dataclass
class Host:
    """A Xen host that is played: it takes machines and says what it was told."""

    uri: str
    told: Path
    connection: Any = field(init=False)

    def __post_init__(self) -> None:
        self.connection = libvirt.open(self.uri)

    def tell(self, domain: dict[str, Any], virt_type: str = "xen") -> dict[str, Any]:
        """Have a machine started, as far as libxl."""
        vmi = machine(DRIVER, domain)
        assert unsupported(DRIVER, vmi.spec, virt_type) == []
        kernel = Path("/d/vmlinuz") if "kernelBoot" in domain.get("firmware", {}) else None
        disks = {name: DiskSource(Path(f"/d/{name}.img"), "qcow2") for name in "abcd"}
        return self.take(render(vmi, DRIVER, DomainContext(virt_type, disks=disks, kernel=kernel)))

    def take(self, xml: str) -> dict[str, Any]:
        """Define a machine and start it, as far as libxl."""
        self.told.unlink(missing_ok=True)
        defined = self.connection.defineXML(xml)
        try:
            with pytest.raises(libvirt.libvirtError, match="failed to create new domain"):
                defined.create()
        finally:
            defined.undefine()
        told: dict[str, Any] = json.loads(self.told.read_text())
        return told


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    folder = Path(f"/tmp/pvxl{os.getpid()}")
    for name in ("modules", "etc", "run"):
        (folder / name).mkdir(parents=True)
    played, told = folder / "played.so", folder / "told.json"
    source = Path(__file__).with_name("libxl_played.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", played, source], check=True)
    (folder / "modules" / MODULE.name).symlink_to(MODULE)
    (folder / "etc" / "libxl.conf").write_text("autoballoon = 0\n")
    (folder / "etc" / "libvirtd.conf").write_text(f'unix_sock_dir = "{folder}/run"\nauth_unix_rw = "none"\n')
    command = ["/usr/bin/env", f"LD_PRELOAD={played}", "/usr/sbin/libvirtd"]
    content = {
        "protocol": 1,
        "domain": {"name": "none", "uuid": "none"},
        "uri": f"xen+unix:///system?socket={folder}/run/libvirt-sock",
        "daemon": [*command, f"--config={folder}/etc/libvirtd.conf", f"--pid-file={folder}/daemon.pid", "--timeout=60"],
        "binds": {**BINDS, "/etc/libvirt": "etc"},
        "environment": {"LIBVIRT_DRIVER_DIR": f"{folder}/modules", "LIBXL_TOLD": str(told)},
    }
    (folder / "plan.json").write_text(json.dumps(content))
    plan = read_plan(folder)
    plan.prepare()
    daemon = Daemon(plan, print)
    try:
        daemon.ensure()
        yield Host(plan.uri, told)
    finally:
        daemon.stop()
        shutil.rmtree(folder)


def disks(told: dict[str, Any]) -> dict[str, tuple[str, bool, bool]]:
    """Return name -> format, whether it can be written, whether it is a CD-ROM."""
    return {d["vdev"]: (d["format"], bool(d.get("readwrite")), bool(d.get("is_cdrom"))) for d in told["disks"]}


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in corpus(DRIVER)])
def test_every_machine_of_the_corpus_is_taken(host: Host, case: Case) -> None:
    told = host.take(render(case.vmi, DRIVER, case.context))
    assert len(told.get("disks", [])) == len(case.context.disks)


def test_a_plain_machine_is_a_whole_one_with_a_serial_port(host: Host) -> None:
    told = host.tell({"devices": {"disks": [{"name": "a"}]}})
    assert told["c_info"]["type"] == "hvm"
    assert told["b_info"]["type.hvm"]["serial"] == "pty"
    assert told["b_info"]["max_memkb"] == 96 * 1024
    assert disks(told) == {"xvda": ("qcow2", True, False)}


@pytest.mark.parametrize(("virt_type", "place"), [("xenpvh", ""), ("xenpv", "type.pv")])
def test_other_guests_boot_a_kernel_of_their_own(host: Host, virt_type: str, place: str) -> None:
    told = host.tell({"firmware": KERNEL, "devices": {"disks": [{"name": "a"}, {"name": "b"}]}}, virt_type)
    assert told["c_info"]["type"] == virt_type.removeprefix("xen")
    boot = told["b_info"][place] if place else told["b_info"]
    assert (boot["kernel"], boot["cmdline"]) == ("/d/vmlinuz", "root=/dev/xvda")
    assert list(disks(told)) == ["xvda", "xvdb"]


def test_disks_are_what_they_are_asked_to_be(host: Host) -> None:
    wanted = [
        {"name": "a"},
        {"name": "b", "cdrom": {}},
        {"name": "c", "disk": {"readonly": True}},
        {"name": "d", "disk": {"bus": "scsi"}},
    ]
    told = host.tell({"devices": {"disks": wanted}})
    assert disks(told) == {
        "xvda": ("qcow2", True, False),
        "hdd": ("qcow2", False, True),
        "xvde": ("qcow2", False, False),
        "sda": ("qcow2", True, False),
    }
    assert told["b_info"]["type.hvm"]["boot"] == "cd"


@pytest.mark.parametrize(
    ("domain", "place", "value"),
    [
        ({"cpu": {"cores": 2, "maxSockets": 4}}, "max_vcpus", 8),
        ({"cpu": {"cores": 2, "maxSockets": 4}}, "avail_vcpus", [0, 1]),
        ({"cpu": {"features": [{"name": "avx", "policy": "disable"}]}}, "cpuid.cpuid", ...),
        ({"features": {"acpi": {"enabled": False}}}, "acpi", "False"),
        ({"features": {"apic": {"enabled": False}}}, "apic", "False"),
        ({"clock": {"utc": {"offsetSeconds": 3600}}}, "rtc_timeoffset", 3600),
        ({"firmware": {"bootloader": {"efi": {"secureBoot": False}}}}, "type.hvm.bios", "ovmf"),
        ({"firmware": KERNEL}, "cmdline", "root=/dev/xvda"),
        ({"devices": {"autoattachSerialConsole": False}}, "type.hvm.serial", None),
        ({"devices": {"sound": {"name": "s", "model": "ac97"}}}, "type.hvm.soundhw", "ac97"),
        (
            {"devices": {"inputs": [{"name": "t", "type": "tablet", "bus": "usb"}]}},
            "type.hvm.usbdevice_list",
            ["tablet"],
        ),
    ],
)
def test_what_the_table_calls_supported_reaches_libxl(
    host: Host, domain: dict[str, Any], place: str, value: Any
) -> None:
    told: Any = host.tell({"devices": {}, **domain})["b_info"]
    if place.startswith("type.hvm."):
        told, place = told["type.hvm"], place.removeprefix("type.hvm.")
    for word in place.split("."):
        told = told.get(word)
    assert told == value or (value is ... and told)


def test_a_machine_that_shall_not_restart_ends(host: Host) -> None:
    assert host.tell({"devices": {}}).get("on_reboot") == "restart"
    assert host.tell({"devices": {}, "rebootPolicy": "Terminate"}).get("on_reboot") is None  # "destroy", the first
