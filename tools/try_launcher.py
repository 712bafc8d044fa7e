"""Does a guest start in a launcher's image? The image runs as a container whose process may do next to nothing.

Not root, no capability, seccomp's filter on, no network: what a launcher Pod has. The launcher in it is asked, as an
agent would ask it, for a machine that boots the kernel which node agents try hypervisors with.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from polyvisor.api.names import LAUNCHER_FOLDER, LAUNCHER_USER
from polyvisor.drivers.qemu.plan import launcher_plan
from polyvisor.drivers.qemu.probe import BANNER, NAME, linux_xml, machine_xml
from polyvisor.drivers.trial import Trial, TrialError

SECONDS = 60.0


class Contained(Trial):
    """A trial whose launcher runs in a container of an image."""

    command: list[str]

    def _supervise(self) -> None:
        if self._process is None:
            os.chown(self.folder, LAUNCHER_USER, LAUNCHER_USER)
            (self.folder / "plan.json").chmod(0o644)
            pipe, quiet = subprocess.PIPE, subprocess.DEVNULL
            self._process = subprocess.Popen(self.command, stdin=pipe, stderr=pipe, stdout=quiet)
        else:
            super()._supervise()


def try_image(buildah: Callable[..., str], command: list[str], image: str, kernel: bytes) -> str:
    """Boot a kernel under QEMU in a container of ``image``; return what was seen, or raise what went wrong."""
    folder = Path(tempfile.mkdtemp(prefix="pvt", dir="/tmp"))
    container = buildah("from", "--pull-never", image)
    try:
        (folder / "vmlinuz").write_bytes(kernel)
        rights = ["--isolation=oci", "--runtime=runc", f"--user={LAUNCHER_USER}:{LAUNCHER_USER}", "--cap-drop=all"]
        rights += ["--network=none", f"--volume={folder}/l:{LAUNCHER_FOLDER}", f"--volume={folder}/vmlinuz:/vmlinuz:ro"]
        one = Contained(folder / "l", launcher_plan(Path(LAUNCHER_FOLDER), None), NAME)
        one.command = [*command, "run", *rights, container, "--", "python3", "-m", "polyvisor.launcher"]
        one.command += ["--pod", LAUNCHER_FOLDER]
        begin = time.monotonic()
        with one as trial:
            trial.call("start", xml=machine_xml("qemu", linux_xml(Path("/vmlinuz"))))
            if not trial.says(BANNER, SECONDS):
                raise TrialError(f"a kernel in {image} said nothing within {SECONDS:.0f} s")
            version = trial.versions.hypervisor
        return f"a kernel boots under QEMU {version} in the launcher's image after {time.monotonic() - begin:.1f} s"
    finally:
        buildah("rm", container)
        shutil.rmtree(folder)
