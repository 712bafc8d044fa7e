"""One standalone installation in a folder of its own, driven by the command line as a user does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polyvisor.standalone.state import StateFolder
from tests import kept

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


class Standalone:
    """The installation; ``run`` is the command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *arguments: str | Path, stdin: str | None = None) -> str:
        """Run one command that must succeed, and return what it printed."""
        done = subprocess.run(
            [BIN / "polyvisor", *arguments],
            cwd=ROOT,
            env={**os.environ, "POLYVISOR_STATE_DIR": str(self.folder)},
            capture_output=True,
            text=True,
            input=stdin,
            timeout=240,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def run_machines(self, *machines: dict[str, Any]) -> None:
        """Create machines, and wait until they run."""
        path = self.folder / "machines.json"
        path.write_text("\n---\n".join(map(json.dumps, machines)))
        self.run("run", path)

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def pid(self) -> int:
        """The process id of the running installation."""
        return int(json.loads((self.folder / "up.pid").read_text())["pid"])

    def launchers(self) -> dict[str, int]:
        """Return the launchers' process ids by folder."""
        files = (self.folder / "l").glob("*/launcher.pid")
        return {file.parent.name: int(file.read_text().split()[0]) for file in files}

    def processes(self, *words: str) -> list[int]:
        """Return the processes whose command line holds every word, and that belong to this folder's installation."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if command and all(word in command for word in words):
                found.append(int(entry.name))
        return sorted(found)


KERNEL = {"image": "localhost/polyvisor/demo-kernel:1", "kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd.img"}


@contextmanager
def standalone(*, new_host: bool = False) -> Iterator[Standalone]:
    """Make the folder with the guest images, and clear it away when the test is over.

    With ``new_host`` the drivers are probed anew; else what earlier tests found out on this host is there.
    """
    folder = Path(tempfile.mkdtemp(prefix="pve", dir="/tmp"))
    shutil.copytree(kept.guest_images(), folder / "images")
    if not new_host:
        kept.recall_probes(StateFolder(folder).probe)
    yield Standalone(folder)
    kept.keep_probes(StateFolder(folder).probe)
    shutil.rmtree(folder)


def bare_machine(name: str, **domain: Any) -> dict[str, Any]:
    """Return a QEMU machine with the demo's kernel, and beside it only what ``domain`` asks for."""
    boot = {"kernelArgs": "console=ttyS0 quiet", "container": KERNEL}
    domain = {"devices": {"autoattachPodInterface": False}, "firmware": {"kernelBoot": boot}, **domain}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": name},
        "spec": {"hypervisor": {"driver": "qemu"}, "terminationGracePeriodSeconds": 0, "domain": domain},
    }
