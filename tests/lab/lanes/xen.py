"""A real Xen, as an endpoint: the first domain (dom0) of an emulated machine, reached from outside over SSH.

Polyvisor runs here, natively; only the hypervisor, libvirt's Xen driver and the guest are emulated. The CPU is one that
libvirt knows and that QEMU emulates well enough for Xen: with others dom0's kernel, Xen or libvirt's daemon dies.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import libvirt

from polyvisor.api import VirtualMachineInstance
from polyvisor.domain import DiskSource, DomainContext, render
from polyvisor.drivers.xen import XenDriver
from polyvisor.standalone.state import StateFolder
from tests import kept
from tests.lab import roots, staging
from tests.lab.errors import LabError
from tests.lab.host import Hardware, Host, command
from tests.lab.making import Recipe
from tests.lab.results import Recorder, Result, StepError

DRIVER = "xen"
NAME = "xen"
PACKAGES = (
    "bubblewrap", "busybox-static", "genisoimage", "iproute2", "kmod", "libvirt-daemon", "libvirt-daemon-driver-xen",
    "linux-image-amd64", "openssh-server", "procps", "python3", "python3-libvirt", "qemu-system-xen", "qemu-utils",
    "xen-hypervisor-4.17-amd64", "xen-utils-4.17", "xen-utils-common",
)  # fmt: skip
RELEASE = "bookworm"
CPU = "Nehalem,+svm,+npt"
HYPERVISOR_LINE = "dom0_mem=1536M,max:1536M dom0_max_vcpus=1 console=com1 com1=115200 loglvl=warning"
KERNEL_LINE = "quiet mitigations=off console=hvc0"
SECONDS = 1500.0
END_SECONDS = 60.0
ENDPOINT = "dom0"
IMAGES = Path("/var/lib/libvirt/images")
UUID = "3c5f1d7e-52a0-4e0e-9c2b-6c6f79766901"

Command = Callable[..., str]


def recipe(site: Path) -> Recipe:
    """Return what the host's root is made of."""
    return Recipe(NAME, RELEASE, PACKAGES, python=site, hypervisor="xen-4.17-amd64.gz")


def run() -> Result:
    """Run the lane. Raises LabError where the host cannot be made or does not come up."""
    with tempfile.TemporaryDirectory(prefix="polyvisor-lab-") as name:
        root = roots.root(recipe(staging.site(Path(name) / "site")))
        shared = Path(name) / "lab"
        shared.mkdir()
        try:
            return _run(root, shared, Path(name))
        finally:
            staging.keep_logs(shared, NAME)


def _run(root: roots.Root, shared: Path, work: Path) -> Result:
    shutil.copy(staging.INSIDE / "xen-init", shared / "init")
    port = _free_port()
    _make_keys(shared, work, port)
    _guest_files(shared)
    hardware = Hardware(CPU, 3072, {port: 22}, HYPERVISOR_LINE, KERNEL_LINE, "pc")
    recorder = Recorder(NAME, DRIVER)
    with Host(command(root, hardware, shared), shared) as host:
        with recorder.whole():
            with recorder.step("dom0 with libvirt's daemon and SSH") as seen:
                host.wait_for("ready", SECONDS)
                seen.append(_version(shared))
            _use(recorder, shared, work, port)
        (shared / "stop").touch()
        with suppress(LabError):  # its logs are wanted all the same; what is left ends with the block
            host.wait(host.seconds + END_SECONDS)
        seconds = host.seconds
    versions = root.versions("xen-hypervisor-4.17-amd64", "libvirt-daemon", "linux-image-amd64")
    return replace(recorder.result(versions), seconds=seconds, cpu_seconds=host.cpu_seconds)


def _version(shared: Path) -> str:
    lines = (shared / "xl-info.log").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    said = {name.strip(): value.strip() for name, value in found.items()}
    if not said.get("xen_version"):
        raise StepError(f"xl info says no version: {lines}")
    return f"xl info: xen_version {said['xen_version']}, virt_caps {said.get('virt_caps', '')}"


# --- from outside -----------------------------------------------------------------------------------------------------


def _use(recorder: Recorder, shared: Path, work: Path, port: int) -> None:
    """Connect to the host as an endpoint, and run a guest there."""
    uri = f"xen+ssh://root@127.0.0.1:{port}/system"
    with _standalone(work) as polyvisor:
        with recorder.step("polyvisor endpoint add") as seen:
            polyvisor("endpoint", "add", uri, "--name", ENDPOINT, "--identity", str(work / "key"),
                      "--known-hosts", str(work / "known_hosts"), "--timeout", "300")  # fmt: skip
            shown = json.loads(polyvisor("get", "hypervisorendpoint", ENDPOINT, "-o", "json"))["status"]
            seen.append(f"{shown['driver']} {shown['hypervisorVersion']}, libvirt {shown['libvirtVersion']}")
        with recorder.step("polyvisor domains") as seen:
            seen.append(_line(polyvisor("domains", ENDPOINT), "Domain-0"))
        with recorder.step("connect with libvirt"):
            connection = libvirt.open(f"{uri}?command={_ssh(work)}&no_tty=1")
        try:
            _run_guest(recorder, shared, connection, polyvisor)
        finally:
            connection.close()


def _run_guest(recorder: Recorder, shared: Path, connection: Any, polyvisor: Command) -> None:
    """Boot the portable VM by Polyvisor's own XML, and use what libvirt's driver has for it."""
    with recorder.step("paravirtual guest created from Polyvisor's XML") as seen:
        domain = connection.createXML(portable_xml("xenpv"))
        seen.append(f"domain {domain.ID()}, {domain.name()}")
    console = shared / "console" / f"guest-{domain.name()}.log"
    with recorder.step("login prompt") as seen:
        seen.append(_until(lambda: _line(_text(console), "login:"), 400))
    with recorder.step("cloud-init applied") as seen:
        seen.append(_until(lambda: _line(_text(console), "hello from runcmd"), 60))
    with recorder.step("listed by polyvisor domains") as seen:
        seen.append(_until(lambda: _line(polyvisor("domains", ENDPOINT), domain.name()), 60))
    with recorder.step("pause and resume") as seen:
        domain.suspend()
        paused = domain.state()[0]
        domain.resume()
        if (paused, domain.state()[0]) != (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_RUNNING):
            raise StepError(f"states {paused} and {domain.state()[0]}")
        seen.append("paused, then running")
    with recorder.step("power off when asked") as seen:
        name = domain.name()
        domain.shutdown()
        seen.append(_until(lambda: "" if name in _names(connection) else f"{name} is gone", 120))


def portable_xml(virt_type: str) -> str:
    """Return Polyvisor's domain XML of the portable VM without its network, which the driver does not have yet."""
    template = staging.without_networks(staging.portable())["spec"]["template"]["spec"]
    metadata = {"name": "portable", "namespace": "default", "uid": UUID}
    vmi = VirtualMachineInstance.model_validate({"metadata": metadata, "spec": template})
    driver = XenDriver()
    driver.defaults(vmi.spec)
    disks = {name: DiskSource(IMAGES / f"{name}.img", "raw") for name in ("data", "cloudinit")}
    context = DomainContext(virt_type, disks=disks, kernel=IMAGES / "vmlinuz", initrd=IMAGES / "initrd.img")
    return render(vmi, driver, context)


def _names(connection: Any) -> list[str]:
    return [domain.name() for domain in connection.listAllDomains()]


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="replace").replace("\r", "") if path.exists() else ""


def _line(text: str, word: str) -> str:
    """Return the first line that has a word, or nothing."""
    return next((line.strip() for line in text.splitlines() if word in line), "")


def _until(look: Callable[[], str], seconds: float) -> str:
    """Return what is seen once something is. Raises StepError."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise StepError(f"not seen after {seconds:.0f} s")
        time.sleep(1)  # a file and a list on another machine: nothing tells
    return seen


@contextmanager
def _standalone(work: Path) -> Iterator[Command]:
    """Have an installation of Polyvisor's here, and its command line."""
    state = work / "state"
    environment = {**os.environ, "POLYVISOR_STATE_DIR": str(state)}

    def polyvisor(*words: str) -> str:
        done = subprocess.run([sys.executable, "-m", "polyvisor.cli", *words], cwd=staging.TOP, env=environment,
                              capture_output=True, text=True, check=False)  # fmt: skip
        if done.returncode:
            raise StepError(f"polyvisor {' '.join(words)} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    kept.recall_probes(StateFolder(state).probe)
    try:
        yield polyvisor
    finally:
        with suppress(StepError):
            polyvisor("down")


# --- what the host is given -------------------------------------------------------------------------------------------


def _make_keys(shared: Path, work: Path, port: int) -> None:
    """Make the host's key and ours; each knows the other's public half."""
    for path in (work / "key", shared / "hostkey"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    shutil.copy(work / "key.pub", shared / "client.pub")
    kind, public, *_ = (shared / "hostkey.pub").read_text().split()
    (work / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {public}\n")


def _ssh(work: Path) -> Path:
    """Return a program that libvirt connects with: ssh with these keys and no settings of the user's."""
    script = work / "ssh"
    script.write_text(f'#!/bin/sh\nexec ssh -F none -i {work}/key -o UserKnownHostsFile={work}/known_hosts "$@"\n')
    script.chmod(0o755)
    return script


def _guest_files(shared: Path) -> None:
    """Take the guest's kernel and disk out of the images, and make its cloud-init disk."""
    wanted = {"boot/vmlinuz": "vmlinuz", "boot/initrd.img": "initrd.img", "disk/demo.img": "data.img"}
    for blob in (kept.guest_images() / "blobs/sha256").iterdir():
        with suppress(tarfile.TarError), tarfile.open(blob) as layer:
            for member in layer:
                if member.name in wanted and (data := layer.extractfile(member)):
                    (shared / wanted[member.name]).write_bytes(data.read())
    volumes = staging.portable()["spec"]["template"]["spec"]["volumes"]
    user_data = next(volume["cloudInitNoCloud"]["userData"] for volume in volumes if "cloudInitNoCloud" in volume)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "user-data").write_text(user_data)
        (Path(folder) / "meta-data").write_text("local-hostname: portable\n")
        subprocess.run(["genisoimage", "-quiet", "-J", "-r", "-V", "cidata", "-o", shared / "cloudinit.img", folder],
                       check=True)  # fmt: skip


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
