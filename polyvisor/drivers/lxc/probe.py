"""Does LXC really run containers here? One whose init is the host's own shell must say a word, then it is taken away.

The container has a user namespace and a root of its own, in which the host's folders of programs and libraries are
mounted read-only: so the probe goes the way of a user's container, and needs nothing installed that a host can lack.

What isn't obvious: the hook mounts the host's folders, too, as they are and without what is mounted below them
(``/usr/local`` of its own, a file that a container runtime put there). In a user namespace the kernel binds no folder
alone that has mounts below it (mount(2), EINVAL), and libvirt binds folders alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

from polyvisor.domain.ids import EACH, TRIAL
from polyvisor.drivers.base import ProbeResult
from polyvisor.drivers.lxc.mounts import PLACES
from polyvisor.drivers.lxc.plan import launcher_plan, module_path
from polyvisor.drivers.memory import keep, recall, stamp
from polyvisor.drivers.trial import UUID, Trial, TrialError
from polyvisor.launcher.mapped import SHIFTED, SPACE

CONTROLLERS = (Path("/usr/lib/libvirt/libvirt_lxc"), Path("/usr/libexec/libvirt_lxc"))
"""Where distributions have it: Debian and Arch Linux; Fedora and openSUSE."""
DAEMON = Path("/usr/sbin/libvirtd")
PROGRAMS = ("bin", "lib", "lib32", "lib64", "libx32", "usr")
"""Folders of the host that its shell may need; on most hosts all but the last are links into it."""
NAME = "polyvisor_probe"
WORD = b"polyvisor-container"
PAUSE = frozenset({"lifecycle.pause", "lifecycle.start-paused"})
BOOT_SECONDS = 5.0


def probe(scratch: Path) -> ProbeResult:
    """Try it, unless something is missing that it cannot work without."""
    if missing := _missing():
        return ProbeResult(False, missing)
    key = [os.uname().release, *map(stamp, filter(Path.exists, CONTROLLERS)), stamp(DAEMON), "pause"]
    return recall(scratch, key) or keep(scratch, key, _try(scratch))


def _try(scratch: Path) -> ProbeResult:
    folder, root = scratch / "t", scratch / "root"
    try:
        shared = _make_root(root)
        with Trial(folder, launcher_plan(folder), NAME) as trial:
            trial.call("start", xml=_xml(root, shared))
            if not trial.says(WORD, BOOT_SECONDS):
                return ProbeResult(False, f"a container's init said nothing in {trial.waited:.0f} s", again=trial.slow)
            versions, facts = trial.versions, _facts(trial)
    except (TrialError, OSError) as error:
        return ProbeResult(False, str(error), again=isinstance(error, TrialError) and error.again)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return ProbeResult(
        available=True,
        version=versions.hypervisor,
        libvirt_version=versions.libvirt,
        virt_types=("lxc",),
        facts=facts,
    )


def _facts(trial: Trial) -> frozenset[str]:
    """Try to pause the container: libvirt can with control groups of version 1, and with those of 2 since 12.4."""
    try:
        trial.call("pause")
        trial.call("resume")
    except TrialError:
        return frozenset()
    return PAUSE


def _missing() -> str:
    if os.geteuid() != 0:
        return "LXC through libvirt needs root"
    if module_path() is None or not any(map(Path.exists, CONTROLLERS)):
        return "libvirt's LXC driver is not installed"
    if not DAEMON.exists():
        return "libvirtd is not installed"
    if not Path("/sys/fs/cgroup").is_dir() or not any(Path("/sys/fs/cgroup").iterdir()):
        return "no cgroups are mounted at /sys/fs/cgroup"
    return ""


def _make_root(root: Path) -> list[str]:
    """Make the container's root; return the host's folders that are to be mounted in it."""
    for name in ("dev", "proc", "sys"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shared = []
    for name in PROGRAMS:
        folder = Path("/", name)
        if folder.is_symlink():
            (root / name).unlink(missing_ok=True)
            (root / name).symlink_to(folder.readlink())
        elif folder.is_dir():
            (root / name).mkdir(exist_ok=True)
            shared.append(name)
    return shared


def _xml(root: Path, shared: Sequence[str]) -> str:
    """Return the container's XML: its root at the first place, each shared folder of the host at one of the next."""
    sources = [str(root), *(f"/{name}" for name in shared)]
    ids = f"start='0' target='{TRIAL}' count='{EACH}'"
    as_they_are = ("", *(f" {SHIFTED}='yes'" for _ in shared))
    folders = "".join(
        f"<mapped:folder source={quoteattr(source)} place='{PLACES}/{number}'{more}/>"
        for number, (source, more) in enumerate(zip(sources, as_they_are, strict=True))
    )
    mounts = "".join(
        f"<filesystem type='mount'><source dir='{PLACES}/{number}'/><target dir='/{name}'/><readonly/></filesystem>"
        for number, name in enumerate(shared, 1)
    )
    return f"""<domain type='lxc'><name>{NAME}</name><uuid>{UUID}</uuid><metadata>
<mapped:folders xmlns:mapped='{SPACE}'>{folders}</mapped:folders></metadata>
<memory unit='MiB'>32</memory><vcpu>1</vcpu>
<idmap><uid {ids}/><gid {ids}/></idmap>
<os><type>exe</type><init>/bin/sh</init><initarg>-c</initarg>
<initarg>echo {WORD.decode()}; exec sleep 60</initarg></os><features><privnet/></features><devices>
<filesystem type='mount'><source dir='{PLACES}/0'/><target dir='/'/></filesystem>{mounts}
<console type='pty'/></devices></domain>"""
