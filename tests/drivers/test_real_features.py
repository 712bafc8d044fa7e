"""What the table claims of QEMU, seen from inside real guests: each feature that shows there, and those that cannot.

All guests of the module start together, and each prints what it finds on its console once.
"""

from __future__ import annotations

import json
import shutil
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api import VirtualMachineInstance
from polyvisor.api.resources import VMIS
from polyvisor.domain import DiskSource, DomainContext, domain_name, domain_uuid, render
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.base import Verdict
from polyvisor.drivers.features import BY_ID
from polyvisor.drivers.qemu import QemuDriver
from polyvisor.testing import Bench, Client
from tests.drivers.feature_guest import Facts, facts, kernel_and_initrd
from tests.drivers.feature_machines import GUESTS, KERNEL, SEEN, Guest

DRIVER = QemuDriver()
BASE = Path("/tmp/pvf")
SECONDS = 120
ELSEWHERE = {
    "tests/drivers/test_real.py": (
        *("lifecycle.shutdown", "lifecycle.destroy", "lifecycle.pause", "lifecycle.adopt", "lifecycle.events"),
        *("lifecycle.start-paused", "volume.container-disk", "volume.empty-disk", "volume.claim", "volume.cloud-init"),
    ),
    "tests/drivers/test_real_screens.py": (
        *("lifecycle.reboot", "lifecycle.reset", "lifecycle.vnc", "lifecycle.screenshot", "lifecycle.guest-agent"),
    ),
}
UNSEEN = {
    "a guest does not see how the host writes its image": ("disk.io", "disk.io-thread", "disk.io-threads-policy"),
    "it shows when an image fails": ("disk.error-policy",),
    "an image's format does not show through it": ("disk.format.qcow2",),
    "it is the absence of output": ("console.none",),
    "Linux uses neither unless it must": ("timer.pit", "timer.rtc"),
    "it shows to firmware alone": ("features.smm",),
}


def _machine(name: str, guest: Guest) -> VirtualMachineInstance:
    """Return the machine as admission lets it through."""
    domain = dict(guest.domain)
    if guest.args is not None:
        boot = {"kernelArgs": f"console=ttyS0 quiet {guest.args}".strip(), "container": KERNEL}
        domain["firmware"] = {**domain.get("firmware", {}), "kernelBoot": boot}
    volumes = [{"name": disk, "hostDisk": {"type": "Disk", "path": f"/d/{disk}.img"}} for disk in guest.disks]
    spec = {"hypervisor": {"driver": "qemu", "virtType": "qemu"}, "domain": domain, "volumes": volumes, **guest.spec}
    metadata = {"name": name, "namespace": "real", "uid": f"0f0e0d0c-0000-4000-8000-{hash(name) % 10**12:012d}"}
    obj = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": metadata, "spec": spec}
    if guest.admitted:
        outcome = admit("CREATE", VMIS, obj, None, AdmissionContext({}, DriverRegistry([DRIVER])))
        assert not outcome.problems, outcome.problems
        obj = outcome.obj
    return VirtualMachineInstance.model_validate(obj)


def _start(name: str, guest: Guest) -> Bench:
    folder = BASE / name
    (folder / "images").mkdir(parents=True, mode=0o700)
    vmi = _machine(name, guest)
    disks = {}
    for disk, content in guest.disks.items():
        path = folder / "images" / f"{disk}.img"
        path.write_bytes(content)
        disks[disk] = DiskSource(path, "raw")
    kernel, initrd = kernel_and_initrd() if guest.args is not None else (None, None)
    context = DomainContext("qemu", disks=disks, kernel=kernel, initrd=initrd, graphics_socket=folder / "vnc.sock")
    one = Bench(folder, DRIVER.launcher(folder, BASE / "scratch"), domain_name(vmi), domain_uuid(vmi))
    answer = one.launch().ask("start", xml=render(vmi, DRIVER, context))
    assert "result" in answer, f"{name}: {answer}"
    return one


def _report(one: Bench, until: str) -> Facts:
    """Return the facts, and beside them the console's whole text, the state at the end and the host's clock."""
    state = Client(one.folder).until(until)["state"]
    said = one.console_log()
    return facts(said) | {"console": said.decode(errors="replace"), "state": state, "now": str(int(time.time()))}


@pytest.fixture(scope="module")
def reports() -> dict[str, Facts]:
    """Run every guest once, side by side."""
    shutil.rmtree(BASE, ignore_errors=True)
    (BASE / "scratch").mkdir(parents=True, mode=0o700)
    found = {}
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, BASE)
        running = {}
        for name, guest in GUESTS.items():
            running[name] = _start(name, guest)
            stack.callback(running[name].close)
        for name, one in running.items():
            one.says(GUESTS[name].end, SECONDS)
            found[name] = _report(one, GUESTS[name].until)
    return found


@pytest.mark.parametrize("feature", SEEN)
def test_the_guest_has_what_the_table_claims(feature: str, reports: dict[str, Facts]) -> None:
    name, check = SEEN[feature]
    assert check(reports[name]), json.dumps(reports[name], indent=1)


def test_every_claim_is_seen_or_cannot_be() -> None:
    claimed = {id_ for id_, support in DRIVER.features.items() if support.verdict is Verdict.SUPPORTED}
    listed = [*SEEN, *(id_ for ids in (*ELSEWHERE.values(), *UNSEEN.values()) for id_ in ids)]
    assert len(listed) == len(set(listed)), "a feature is listed twice"
    assert set(listed) <= set(BY_ID)
    assert claimed - set(listed) == set()
    assert {id_ for id_ in listed if DRIVER.features[id_].verdict is Verdict.UNSUPPORTED} == set()
