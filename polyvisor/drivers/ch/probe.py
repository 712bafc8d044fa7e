"""Does Cloud Hypervisor really run guests here? It must boot a Linux kernel as far as its first line.

An accelerator's device proves nothing: some clouds offer a KVM under which no ordinary kernel gets anywhere. A libvirt
that is too old to notice that a guest has powered off is turned away.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from xml.sax.saxutils import escape

from polyvisor.drivers.base import ProbeResult
from polyvisor.drivers.ch.plan import HYPERVISOR, installed, launcher_plan
from polyvisor.drivers.ch.table import MIN_LIBVIRT
from polyvisor.drivers.memory import keep, recall, stamp
from polyvisor.drivers.qemu.probe import find_kernel
from polyvisor.drivers.trial import UUID, Trial, TrialError

DEVICES = {"kvm": Path("/dev/kvm"), "hyperv": Path("/dev/mshv")}
NAME = "polyvisor_probe"
BANNER = b"Linux version"
BOOT_SECONDS = 5.0


def probe(scratch: Path) -> ProbeResult:
    """Try it, unless something is missing that it cannot work without."""
    binary, libvirt = shutil.which(HYPERVISOR), installed()
    if not binary:
        return ProbeResult(False, f"{HYPERVISOR} is not installed; its releases are on GitHub, Debian has no package")
    if libvirt is None:
        return ProbeResult(False, "libvirt has no Cloud Hypervisor driver here; build libvirt with -Ddriver_ch=enabled")
    if os.geteuid() != 0:
        return ProbeResult(False, "Cloud Hypervisor through libvirt needs root for the launcher's private daemon")
    there = [virt_type for virt_type, device in DEVICES.items() if os.access(device, os.R_OK | os.W_OK)]
    if not there:
        return ProbeResult(False, "neither /dev/kvm nor /dev/mshv is there; Cloud Hypervisor needs one of them")
    kernel = find_kernel(scratch)
    if kernel is None:
        return ProbeResult(False, "no Linux kernel to try it with; set POLYVISOR_PROBE_KERNEL to the path of one")
    key = [os.uname().release, stamp(Path(binary)), *map(stamp, libvirt), str(kernel)]
    return recall(scratch, key) or keep(scratch, key, _try(scratch, there[0], kernel))


def _try(scratch: Path, virt_type: str, kernel: Path) -> ProbeResult:
    folder = scratch / "t"
    try:
        with Trial(folder, launcher_plan(folder), NAME) as trial:
            versions = trial.versions
            if _number(versions.libvirt) < _number(MIN_LIBVIRT):
                return ProbeResult(False, f"libvirt {versions.libvirt} is too old, {MIN_LIBVIRT} is needed")
            trial.call("start", xml=_xml(virt_type, kernel))
            if not trial.says(BANNER, BOOT_SECONDS):
                seen = f"a Linux kernel did not print its first line in {trial.waited:.0f} s"
                return ProbeResult(False, seen, again=trial.slow)
    except (TrialError, OSError) as error:
        return ProbeResult(False, str(error), again=isinstance(error, TrialError) and error.again)
    return ProbeResult(True, "", versions.hypervisor, versions.libvirt, (virt_type,))


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _xml(virt_type: str, kernel: Path) -> str:
    return f"""<domain type='{virt_type}'><name>{NAME}</name><uuid>{UUID}</uuid><memory unit='MiB'>128</memory>
<vcpu>1</vcpu><os><type>hvm</type><kernel>{escape(str(kernel))}</kernel>
<cmdline>console=ttyS0 earlyprintk=serial,ttyS0</cmdline></os><devices><serial type='pty'/></devices></domain>"""
