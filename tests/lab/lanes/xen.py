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
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import libvirt
import yaml

from polyvisor.cli.client import Client
from polyvisor.drivers.qemu import boot_sector
from polyvisor.kube.config import from_kubeconfig
from polyvisor.standalone.state import StateFolder
from tests import kept
from tests.e2e.guest_shell import shell
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
POOL = "default"
VM = "portable"
VETERAN = "veteran"
VETERAN_XML = f"""
<domain type='xen'><name>{VETERAN}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='xenfv'>hvm</type><boot dev='hd'/></os>
<devices><disk type='file' device='disk'><driver name='qemu' type='raw'/>
<source file='/var/lib/libvirt/images/{VETERAN}.img'/><target dev='hda' bus='ide'/></disk>
<serial type='pty'><target port='0'/></serial><console type='pty'><target type='serial' port='0'/></console>
</devices></domain>
"""
"""A whole machine that boots a sector from its disk; no VirtualMachine can name a kernel that lies on the host."""

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
    boot_sector.write_disk(shared / f"{VETERAN}.img")
    hardware = Hardware(CPU, 3072, {port: 22}, HYPERVISOR_LINE, KERNEL_LINE, "pc")
    recorder = Recorder(NAME, DRIVER)
    with Host(command(root, hardware, shared), shared) as host:
        with recorder.whole():
            with recorder.step("dom0 with libvirt's daemon and SSH") as seen:
                host.wait_for("ready", SECONDS)
                seen.append(_version(shared))
            _use(recorder, work, port)
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


def _use(recorder: Recorder, work: Path, port: int) -> None:
    """Connect to the host as an endpoint, run a guest there, and adopt one that was there before."""
    uri = f"xen+ssh://root@127.0.0.1:{port}/system"
    with _standalone(work) as polyvisor:
        with recorder.step("polyvisor endpoint add") as seen:
            polyvisor("endpoint", "add", uri, "--name", ENDPOINT, "--identity", str(work / "key"),
                      "--known-hosts", str(work / "known_hosts"), "--timeout", "300")  # fmt: skip
            shown = json.loads(polyvisor("get", "hypervisorendpoint", ENDPOINT, "-o", "json"))
            pool, status = shown["spec"]["storage"][0]["pool"], shown["status"]
            seen.append(f"{status['driver']} {status['hypervisorVersion']}, libvirt {status['libvirtVersion']}, "
                        f"pool {pool}")  # fmt: skip
        with recorder.step("polyvisor domains") as seen:
            seen.append(_line(polyvisor("domains", ENDPOINT), "Domain-0"))
        connection = libvirt.open(f"{uri}?command={_ssh(work)}&no_tty=1")
        try:
            guest = Guest(recorder, polyvisor, connection, Client(from_kubeconfig(work / "state/kubeconfig")))
            guest.run(work)
            guest.use()
            guest.end()
            _adopt(recorder, polyvisor, connection)
        finally:
            connection.close()


class Guest:
    """The portable VM on the endpoint, by the command line; libvirt, from outside, is asked what the host has of it."""

    def __init__(self, recorder: Recorder, polyvisor: Command, connection: Any, client: Client) -> None:
        self._step = recorder.step
        self._polyvisor = polyvisor
        self._connection = connection
        self._client = client
        self._uid = ""

    def run(self, work: Path) -> None:
        """Boot it."""
        manifest = staging.without_networks(staging.portable())  # the driver has no networks yet
        manifest["spec"]["template"]["spec"]["hypervisor"] = {
            "driver": DRIVER, "endpoint": ENDPOINT, "virtType": "xenpv",
        }  # fmt: skip
        (work / "manifest.yaml").write_text(yaml.safe_dump(manifest))
        with self._step("polyvisor run on the endpoint") as seen:
            seen.append(self._polyvisor("run", str(work / "manifest.yaml"), "--timeout", "300").splitlines()[-1])
        with self._step("status and domain") as seen:
            found = json.loads(self._polyvisor("get", "vmi", VM, "-o", "json"))
            self._uid, status = found["metadata"]["uid"], found["status"]["hypervisor"]
            domain = self._connection.lookupByUUIDString(status["domain"]["uuid"])
            seen.append(
                f"virtType {status['virtType']}, endpoint {status['endpoint']}, domain {domain.ID()} {domain.name()}"
            )
        with self._step("volumes in the pool") as seen:
            seen.append(", ".join(name.replace(self._uid, "UID") for name in self._volumes()))
        with self._step("login prompt") as seen:
            seen.append(_until(lambda: _line(self._polyvisor("logs", VM), "login:"), 400))
        with self._step("cloud-init applied") as seen:
            seen.append(_until(lambda: _line(self._polyvisor("logs", VM), "hello from runcmd"), 60))

    def use(self) -> None:
        """Type in its console, pause and unpause it."""
        with self._step("console") as seen, shell(self._client, VM) as console:
            command, wanted = "grep -m1 'model name' /proc/cpuinfo", rb"model name\s*: [^\r\n]+(?=[\r\n])"
            seen.append(console.says(command, wanted)[0].decode())
        with self._step("pause and unpause") as seen, shell(self._client, VM) as console:
            said = _pause_and_unpause(self._polyvisor, VM, self._connection.lookupByName(f"default_{VM}"))
            heard = console.says("echo again-$((40+3))", rb"again-43")[0].decode()
            seen.append(f"{said}; {heard}")

    def end(self) -> None:
        """Have it power off, and delete it with what it had on the host."""
        with self._step("power off when asked") as seen:
            self._polyvisor("stop", VM, "--wait", "--timeout", "300")
            status = json.loads(self._polyvisor("get", "vm", VM, "-o", "json"))["status"]["printableStatus"]
            if status != "Stopped":
                raise StepError(f"the VM is {status}")
            seen.append(f"printableStatus {status}")
        with self._step("delete") as seen:
            self._polyvisor("delete", "vm", VM)
            seen.append(_until(self._gone, 120))

    def _gone(self) -> str:
        """Return what is left on the host once domain and volumes of the machine are gone."""
        left = self._volumes()
        if f"default_{VM}" in _names(self._connection) or any(self._uid in name for name in left):
            return ""
        return f"domain and its volumes gone, images kept: {len([name for name in left if name.endswith('.whole')])}"

    def _volumes(self) -> list[str]:
        """Return the names of Polyvisor's volumes on the host."""
        pool = self._connection.storagePoolLookupByName(POOL)
        pool.refresh(0)
        return sorted(name for name in pool.listVolumes() if name.startswith("polyvisor-"))


def _adopt(recorder: Recorder, polyvisor: Command, connection: Any) -> None:
    """Take over a domain that somebody defined and started with libvirt alone, use it and let go of it."""
    with recorder.step("domain defined and started without Polyvisor") as seen:
        domain = connection.defineXML(VETERAN_XML)
        domain.create()
        number = domain.ID()
        seen.append(_until(lambda: _line(polyvisor("domains", ENDPOINT), f"{VETERAN}    running"), 60))
    with recorder.step("polyvisor adopt") as seen:
        said = polyvisor("adopt", f"{ENDPOINT}/{VETERAN}").splitlines()[-1]
        phase = json.loads(polyvisor("get", "vmi", VETERAN, "-o", "json"))["status"]["phase"]
        _same(domain, number)
        seen.append(f"{said}; phase {phase}, domain {number} as before")
    with recorder.step("pause and unpause the adopted") as seen:
        seen.append(_pause_and_unpause(polyvisor, VETERAN, domain))
    with recorder.step("polyvisor unmanage") as seen:
        said = polyvisor("unmanage", VETERAN).splitlines()[-1]
        _same(domain, number)
        seen.append(f"{said}; domain {number} as before")


def _pause_and_unpause(polyvisor: Command, name: str, domain: Any) -> str:
    """Return what libvirt says of a machine's domain meanwhile. Raises StepError."""

    def paused() -> bool:
        conditions = json.loads(polyvisor("get", "vmi", name, "-o", "json"))["status"]["conditions"]
        return any(one["type"] == "Paused" for one in conditions)

    polyvisor("pause", "vmi", name)
    _until(lambda: "shown" if paused() else "", 60)
    states = [domain.state()[0]]
    polyvisor("unpause", "vmi", name)
    _until(lambda: "" if paused() else "shown", 60)
    states.append(domain.state()[0])
    if states != [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_RUNNING]:
        raise StepError(f"libvirt's states are {states}")
    return "libvirt: paused, then running"


def _same(domain: Any, number: int) -> None:
    """Raise StepError if a domain does not run as the one that it was."""
    if (domain.ID(), domain.state()[0]) != (number, libvirt.VIR_DOMAIN_RUNNING):
        raise StepError(f"domain {number} is {domain.ID()} now, in state {domain.state()[0]}")


def _names(connection: Any) -> list[str]:
    return [domain.name() for domain in connection.listAllDomains()]


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
    shutil.copytree(kept.guest_images(), state / "images")
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


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
