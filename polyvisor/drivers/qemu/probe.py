"""Does QEMU really run guests here? Each virt type must run a guest.

Neither /dev/kvm nor firmware that runs proves anything: some clouds offer a KVM under which no ordinary kernel gets
anywhere. So KVM must boot a Linux kernel as far as its first line, if there is one on this host or in the image store;
where there is none, and for emulation, a boot sector of our own is the guest, which takes the steps of a kernel that a
machine must be able to make. The answer takes seconds to get, so it is kept for as long as host boot, kernel and QEMU
stay the same; the trial also leaves libvirt's warmed capabilities cache behind for the launchers of this node.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from polyvisor.domain.reading import parsed
from polyvisor.drivers import cpus
from polyvisor.drivers.base import Cpus, ProbeResult
from polyvisor.drivers.memory import keep, recall, stamp
from polyvisor.drivers.qemu import boot_sector
from polyvisor.drivers.qemu.plan import CACHE, VSOCK, launcher_plan, warm_cache
from polyvisor.drivers.trial import UUID, Trial, TrialError

BINARY = f"qemu-system-{os.uname().machine}"
ANSWER = "5"
"""Goes up when an answer holds more or is found otherwise, so that one which an older release kept is not believed."""
KERNEL_VARIABLE = "POLYVISOR_PROBE_KERNEL"
BANNER = b"Linux version"
KVM, EMULATED = "kvm", "qemu"
BOOT_SECONDS = {KVM: 4.0, EMULATED: 15.0}
KERNEL_BYTES = 64 * 1024 * 1024
NAME = "polyvisor_probe"
TPM_PROGRAMS = ("swtpm", "swtpm_setup")
SHARE_PROGRAMS = (Path("/usr/lib/qemu/virtiofsd"), Path("/usr/libexec/virtiofsd"))
FIRMWARE = Path("/usr/share/qemu/firmware")
CARDS = {"qxl": "video.qxl"}
"""Graphics cards that not every build of QEMU has, as libvirt names them -> the feature."""
MODULES = ("lib*/qemu/hw-display-*.so", "lib/*/qemu/hw-display-*.so")
"""Where distributions put graphics cards that QEMU loads, below /usr: packages of their own bring and remove them."""
log = logging.getLogger("polyvisor.probing")


def probe(scratch: Path) -> ProbeResult:
    """Try the virt types, or recall what came of it before."""
    binary = shutil.which(BINARY)
    if not binary:
        return ProbeResult(False, f"{BINARY} is not installed")
    kernel = find_kernel(scratch) if _kvm() or not _own_guest() else None
    key = _key(binary, kernel)
    if known := recall(scratch, key):
        return known
    found = _try(scratch, kernel)
    return found if found.again else keep(scratch, key, found)


def _kvm() -> bool:
    return os.access("/dev/kvm", os.R_OK | os.W_OK)


def _own_guest() -> bool:
    return os.uname().machine == boot_sector.MACHINE


def find_kernel(scratch: Path) -> Path | None:
    """Find a Linux kernel to boot: one that is named, one of the host's, or one in the image store."""
    named = os.environ.get(KERNEL_VARIABLE)
    if named:
        return Path(named) if Path(named).is_file() else None
    own = scratch / "vmlinuz"
    if own.is_file():
        return own
    hosts = [path for path in sorted(Path("/boot").glob("vmlinuz*"), reverse=True) if os.access(path, os.R_OK)]
    if hosts:
        return hosts[0]
    images = next((folder / "images" for folder in scratch.parents[:2] if (folder / "images").is_dir()), None)
    return _from_images(images, own) if images else None


def _from_images(images: Path, target: Path) -> Path | None:
    """Take a kernel out of the image store: a file of that name, or a member of a layer."""
    for path in images.rglob("vmlinuz*"):
        if path.is_file() and not path.is_symlink():
            return path
    for blob in sorted((images / "blobs" / "sha256").glob("*")):
        try:
            with tarfile.open(blob) as layer:
                for member in layer:
                    small = member.isfile() and member.size <= KERNEL_BYTES
                    if small and Path(member.name).name.startswith("vmlinuz") and (data := layer.extractfile(member)):
                        part = target.with_suffix(".part")
                        part.write_bytes(data.read())
                        return part.rename(target)
        except (tarfile.TarError, OSError, EOFError):
            continue
    return None


def _try(scratch: Path, kernel: Path | None) -> ProbeResult:
    """Try both virt types at once; the first launcher, which has libvirt ask QEMU what it can do, runs one of them."""
    folder = scratch / "t"
    try:
        with Trial(folder, launcher_plan(folder, scratch), NAME) as trial, ThreadPoolExecutor(1) as other:
            versions = trial.versions
            if not versions.libvirt:
                return ProbeResult(False, _log(folder))
            cache = folder / CACHE
            if cache.is_dir():
                shutil.copytree(cache, warm_cache(scratch), dirs_exist_ok=True)
            kvm = other.submit(_on_kvm, scratch, kernel)
            found = {EMULATED: _run(trial, EMULATED, kernel), KVM: kvm.result()}
    except TrialError as error:
        return ProbeResult(False, str(error), again=error.again)
    works = [virt_type for virt_type in BOOT_SECONDS if not found[virt_type].wrong]
    return ProbeResult(
        available=bool(works),
        reason="; ".join(f"{name}: {found[name].wrong}" for name in BOOT_SECONDS if found[name].wrong),
        version=versions.hypervisor,
        libvirt_version=versions.libvirt,
        virt_types=tuple(works),
        facts=_facts() | (found[works[0]].facts if works else frozenset()),
        cpus=found[works[0]].cpus if works else None,
        again=not works and any(outcome.again for outcome in found.values()),
    )


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of a guest: what went wrong, or the CPUs and devices. ``again``: it may only have been too slow."""

    wrong: str = ""
    cpus: Cpus | None = None
    facts: frozenset[str] = frozenset()
    again: bool = False


def _on_kvm(scratch: Path, kernel: Path | None) -> _Outcome:
    """Run a guest on KVM."""
    if not _kvm():
        return _Outcome("/dev/kvm is not there or cannot be opened")
    folder = scratch / KVM
    try:
        with Trial(folder, launcher_plan(folder, scratch), NAME) as trial:
            return _run(trial, KVM, kernel)
    except TrialError as error:
        return _Outcome(str(error), again=error.again)


def _run(trial: Trial, virt_type: str, kernel: Path | None) -> _Outcome:
    """Run a guest."""
    linux = kernel is not None and (virt_type == KVM or not _own_guest())
    if not linux and not _own_guest():
        return _Outcome(f"there is no Linux kernel to try it with (set {KERNEL_VARIABLE}, or import an image)")
    try:
        guest = linux_xml(kernel) if linux else own_xml(boot_sector.write_disk(trial.folder / "boot.img"))
        trial.call("start", xml=machine_xml(virt_type, guest))
        if trial.says(BANNER if linux else boot_sector.DONE, BOOT_SECONDS[virt_type]):
            return _told(trial, virt_type)
        seen = "a Linux kernel did not print its first line" if linux else boot_sector.stopped(trial.console())
        return _Outcome(f"{seen} (waited {trial.waited:.0f} s)", again=trial.slow)
    except (TrialError, OSError) as error:
        return _Outcome(str(error), again=isinstance(error, TrialError) and error.again)


def _told(trial: Trial, virt_type: str) -> _Outcome:
    """Ask libvirt for CPUs and devices; a node whose libvirt does not tell takes no machine that names one of them."""
    try:
        found = trial.call("capabilities", virtType=virt_type)
        return _Outcome(cpus=cpus.read(found, os.uname().machine), facts=_cards(found["domain"]))
    except (TrialError, ValueError) as error:
        log.warning("the CPUs and devices for %s guests are not known: %s", virt_type, error)
        return _Outcome()


def _cards(capabilities: str) -> frozenset[str]:
    """Return the features that libvirt's document of what a domain can have gives."""
    models = parsed(capabilities).iterfind("devices/video/enum[@name='modelType']/value")
    return frozenset(CARDS[model.text] for model in models if model.text in CARDS)


def linux_xml(kernel: Path | None) -> tuple[str, str]:
    """Return what boots a Linux kernel: elements of ``<os>``, and devices."""
    line = "<cmdline>console=ttyS0 earlyprintk=serial,ttyS0</cmdline>"
    return f"<kernel>{escape(str(kernel))}</kernel>{line}", ""


def own_xml(disk: Path) -> tuple[str, str]:
    """Return what boots the boot sector."""
    return "<boot dev='hd'/>", boot_sector.disk_xml(disk)


def machine_xml(virt_type: str, guest: tuple[str, str]) -> str:
    """Return the domain of a machine that boots the guest, has nothing else but a console, and ends if it restarts."""
    boot, devices = guest
    return f"""<domain type='{virt_type}'><name>{NAME}</name><uuid>{UUID}</uuid><memory unit='MiB'>128</memory>
<vcpu>1</vcpu><os><type machine='q35'>hvm</type>{boot}</os><features><acpi/></features><on_reboot>destroy</on_reboot>
<on_crash>destroy</on_crash><devices>{devices}<controller type='usb' model='none'/><console type='pty'/>
<memballoon model='none'/><video><model type='none'/></video></devices></domain>"""


def _facts() -> frozenset[str]:
    """Return the conditional features that this node's files give."""
    texts = [path.read_text(errors="replace") for path in FIRMWARE.glob("*.json")] if FIRMWARE.is_dir() else []
    uefi = [text for text in texts if '"uefi"' in text and "x86_64" in text]
    facts = {"firmware.efi", "firmware.efi.persistent"} if uefi else set()
    if any('"secure-boot"' in text for text in uefi):
        facts.add("firmware.efi.secure-boot")
    if os.geteuid() == 0 and any(path.exists() for path in SHARE_PROGRAMS):  # libvirt's own condition
        facts.add("filesystem.virtiofs")
    if all(map(shutil.which, TPM_PROGRAMS)):
        facts |= {"tpm", "tpm.persistent"}
    if os.access(VSOCK, os.R_OK | os.W_OK):
        facts.add("vsock")
    return frozenset(facts)


def _key(binary: str, kernel: Path | None) -> list[str]:
    content = hashlib.sha256(kernel.read_bytes()).hexdigest() if kernel else ""
    modules = sorted({path.name for pattern in MODULES for path in Path("/usr").glob(pattern)})
    return [ANSWER, os.uname().release, stamp(Path(binary)), content, str(_kvm()), *sorted(_facts()), *modules]


def _log(folder: Path) -> str:
    lines = (folder / "launcher.log").read_text(errors="replace").splitlines()
    said = next((line for line in reversed(lines) if "cannot be reached" in line), "")
    try:
        return str(json.loads(said)["message"])
    except (ValueError, LookupError):
        return said or "libvirt cannot be reached"
