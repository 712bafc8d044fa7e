"""The emulated machine that is a lane's host: its command line, its life, and how it hands back what it found.

Its shared folder (9p, mounted on /lab) holds the init and the job that it runs, and takes logs and results. It ends by
switching itself off. However the lane ends, the emulator ends with it: the kernel kills it when this process dies, and
a lane that is interrupted or takes too long ends it before.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tests.lab.errors import LabError
from tests.lab.roots import Root

EMULATOR = "qemu-system-x86_64"
CONSOLE = "console.log"
END_SECONDS = 10
LOOK_SECONDS = 0.5
TAIL = 3000
QUIET = "quiet mitigations=off console=ttyS0"


@dataclass(frozen=True)
class Hardware:
    """What is emulated. ``forwards``: port of this machine's loopback -> port of the host."""

    cpu: str
    memory_mib: int
    forwards: Mapping[int, int] = field(default_factory=dict)
    hypervisor_line: str = ""
    """Command line of the root's hypervisor; without one its Linux kernel boots directly."""
    kernel_line: str = QUIET
    machine: str = "q35,sata=off"


def command(root: Root, hardware: Hardware, shared: Path, disks: tuple[Path, ...] = ()) -> list[str]:
    """Return the emulator's command line. The root is never written to; ``disks`` are read-only, and follow it."""
    hops = "".join(f",hostfwd=tcp:127.0.0.1:{here}-:{there}" for here, there in hardware.forwards.items())
    words = [
        EMULATOR, "-accel", "tcg", "-machine", hardware.machine, "-cpu", hardware.cpu, "-smp", "1",
        "-m", str(hardware.memory_mib), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-serial", f"file:{shared / CONSOLE}",
        "-drive", f"file={root.disk},if=virtio,format=raw,snapshot=on,discard=unmap",
    ]  # fmt: skip
    for disk in disks:
        words += ["-drive", f"file={disk},if=virtio,format=raw,readonly=on"]
    words += ["-virtfs", f"local,path={shared},mount_tag=lab,security_model=none,multidevs=remap"]
    words += ["-netdev", f"user,id=net{hops}", "-device", "virtio-net-pci,netdev=net,romfile="]
    words += ["-device", "virtio-rng-pci"]
    if hardware.hypervisor_line:  # a multiboot kernel, whose modules are Linux and its initramfs
        modules = f"{root.kernel} {hardware.kernel_line},{root.initrd}"
        return [*words, "-kernel", str(root.hypervisor), "-append", hardware.hypervisor_line, "-initrd", modules]
    return [*words, "-kernel", str(root.kernel), "-initrd", str(root.initrd), "-append", hardware.kernel_line]


class Host:
    """A host that runs; a context manager that leaves no process behind."""

    def __init__(self, words: list[str], shared: Path) -> None:
        self.shared = shared
        self._words = words
        self._began = time.monotonic()
        self._before = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Host:
        if not shutil.which(self._words[0]):
            raise LabError(f"{self._words[0]} is not installed: apt-get install qemu-system-x86")
        if not shutil.which("setpriv"):
            raise LabError("setpriv is not installed: apt-get install util-linux")
        self._before = _children()
        self._began = time.monotonic()
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *self._words],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        assert process is not None
        assert process.stderr is not None
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        process.stderr.close()

    @property
    def ended(self) -> bool:
        """Whether the emulator has ended."""
        return self._process is None or self._process.poll() is not None

    @property
    def seconds(self) -> float:
        """Wall time since the start."""
        return time.monotonic() - self._began

    @property
    def cpu_seconds(self) -> float:
        """CPU time of the emulator, once it has ended."""
        return _children() - self._before

    @property
    def console(self) -> str:
        """The end of what the host's console said."""
        try:
            return (self.shared / CONSOLE).read_bytes()[-TAIL:].decode(errors="replace").replace("\r", "")
        except FileNotFoundError:
            return ""

    def wait_for(self, name: str, seconds: float) -> Path:
        """Return a file of the shared folder, once it is there. Raises LabError where the host ends or time passes."""
        while not (path := self.shared / name).exists():
            self._check(name, seconds)
            time.sleep(LOOK_SECONDS)  # nothing tells when a file appears in the folder
        return path

    def wait(self, seconds: float) -> None:
        """Wait until the host has switched itself off. Raises LabError when time passes before."""
        assert self._process is not None
        try:
            self._process.wait(max(1.0, seconds - self.seconds))
        except subprocess.TimeoutExpired:
            raise LabError(f"the host has not ended after {seconds:.0f} s; its console:\n{self.console}") from None

    def _check(self, name: str, seconds: float) -> None:
        if self.ended and not (self.shared / name).exists():
            assert self._process is not None
            assert self._process.stderr is not None
            said = self._process.stderr.read().decode(errors="replace").strip()
            raise LabError(f"the host ended before it wrote {name}: {said}\n{self.console}")
        if self.seconds > seconds:
            raise LabError(f"the host has not written {name} after {seconds:.0f} s; its console:\n{self.console}")


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
