"""The job inside a host: what a user types, from `polyvisor up` to the virtual machine's own power-off.

/lab/job.json says for which lane, driver and virt type, /lab/manifest.yaml is the virtual machine's. Each step is
recorded with its seconds and a line of real output. The command line runs in processes that are forked from this one,
which has imported it once: on an emulated CPU that alone takes ten seconds.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from polyvisor.cli.app import run as command_line
from polyvisor.cli.client import Client
from polyvisor.kube.config import from_kubeconfig
from tests.e2e.guest_shell import shell

LAB = Path("/lab")
STATE = Path(os.environ["POLYVISOR_STATE_DIR"])
IMAGES = Path("/srv/polyvisor/images")
GIVEN = json.loads((LAB / "job.json").read_text())
MANIFEST, NAME = LAB / "manifest.yaml", "portable"
LOOK_SECONDS = 1.0
QUIET_SECONDS = 5.0
CONSOLE_SECONDS = 120.0
PROFILE = "polyvisor-machine"
TRIES = """
echo x >/dev/null && echo null
head -c 1 /etc/passwd >/dev/null && echo read
( : >/etc/denied ) && echo etc
mount -t tmpfs tmpfs /mnt && echo mount
head -c 1 /dev/vda >/dev/null && echo disk
"""
"""What is tried as root within QEMU's control group and profile."""
RESULT = {**GIVEN["result"], "versions": {}, "steps": [], "wrong": "the job was cut short"}


class StepError(Exception):
    """A step did not show what it should."""


def say(text: str) -> None:
    """Write a line of the job's log."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def save() -> None:
    part = LAB / ".result.json"
    part.write_text(json.dumps(RESULT))
    part.rename(LAB / "result.json")


@contextmanager
def step(name: str) -> Iterator[Callable[[str], None]]:
    """Record a step; what it calls with a line is what was seen."""
    say(f"== {name}")
    begin, seen = time.monotonic(), []
    RESULT["wrong"] = f"{name}: the job was cut short"
    save()
    yield seen.append
    seconds = round(time.monotonic() - begin, 1)
    say(f"== {name}: {seconds} s: {seen[-1] if seen else ''}")
    RESULT["steps"].append({"name": name, "seconds": seconds, "seen": seen[-1] if seen else ""})
    save()


def polyvisor(*words: str) -> str:
    """Run one command that must succeed, and return what it printed."""
    output = LAB / "command.log"
    output.write_bytes(b"")
    child = os.fork()
    if child == 0:
        for number in (1, 2):
            os.dup2(os.open(output, os.O_WRONLY | os.O_APPEND), number)
        code = command_line(words)
        sys.stdout.flush()
        os._exit(int(code))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said = output.read_text()
    say(f"$ polyvisor {' '.join(words)}\n{said}")
    if code:
        raise StepError(f"polyvisor {' '.join(words)} ended with {code}: {said.strip()[-1500:]}")
    return said


def log() -> str:
    """Return what the virtual machine's console has said."""
    found = [path.read_bytes() for path in STATE.glob("l/*/console.log")]
    return b"".join(found).decode(errors="replace").replace("\r", "")


def until(pattern: str, seconds: float) -> str:
    """Return the line of the console that matches, once it is there."""
    deadline = time.monotonic() + seconds
    while not (found := re.search(rf"^.*{pattern}", log(), re.MULTILINE)):
        if time.monotonic() > deadline:
            raise StepError(f"the console has not said {pattern!r} after {seconds:.0f} s:\n{log()[-1500:]}")
        time.sleep(LOOK_SECONDS)
    return found[0].strip()


def machine() -> dict:
    """Return the VirtualMachineInstance."""
    return json.loads(polyvisor("get", "vmi", NAME, "-o", "json"))


def accelerated() -> str:
    """Return how the virtual machine's QEMU was started. Raises StepError if not with KVM."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().decode().split("\0")
            if f"guest=default_{NAME}" in " ".join(words):
                found = " ".join(f"{option} {words[words.index(option) + 1][:60]}" for option in ("-accel", "-cpu"))
                if "-accel kvm" not in found:
                    raise StepError(f"QEMU runs without KVM: {words}")
                return f", {found}"
    raise StepError("no QEMU runs the virtual machine")


def start() -> None:
    shutil.copytree(IMAGES, STATE / "images")
    with step("polyvisor up") as seen:
        said = polyvisor("up")
        seen(next((line for line in said.splitlines() if " works" in line), said[-200:]))
    label = f"hypervisor.kubevirt.io/{GIVEN['driver']}.{GIVEN['virtType']}"
    with step("driver and virt type found by the probe") as seen:
        node = json.loads(polyvisor("get", "nodes", "-o", "json"))["items"][0]
        labels = {key: value for key, value in node["metadata"]["labels"].items() if GIVEN["driver"] in key}
        for answer in STATE.glob("probe/*/answer.json"):
            say(f"{answer}: {answer.read_text()}")
        if labels.get(label) != "true":
            raise StepError(f"the node has no label {label}: {labels}")
        seen(f"{label}=true")


def boot() -> None:
    with step("polyvisor run") as seen:
        seen(polyvisor("run", str(MANIFEST)).strip().splitlines()[-1])
    with step("status and process") as seen:
        status = machine()["status"]["hypervisor"]
        if (status["driver"], status["virtType"]) != (GIVEN["driver"], GIVEN["virtType"]):
            raise StepError(f"the status says {status}")
        RESULT["versions"] |= {GIVEN["hypervisor"]: status.get("version", ""), "libvirt": status["libvirtVersion"]}
        seen(f"virtType {status['virtType']}" + (accelerated() if GIVEN["virtType"] == "kvm" else ""))
    with step("login prompt") as seen:
        seen(until("login:", 400))
    with step("cloud-init applied") as seen:
        seen(until("hello from runcmd.*", 60))


def confined() -> None:
    """See that QEMU is confined, and that what confines it stops even root."""
    with step("confinement in force") as seen:
        found = json.loads(polyvisor("status", "-o", "json"))["confinement"]
        ours = [one for one in found["processes"] if one["program"].startswith("qemu-system")]
        if not ours:
            raise StepError(f"no QEMU is among {found}")
        one = ours[0]
        seen(f"profile {one['profile']}, {one['capabilities']} capabilities, devices of its own: {one['ownDevices']}")
        wanted = {"profile": f"{PROFILE} (enforce)", "capabilities": 0, "ownDevices": True, "ownMounts": True}
        if wrong := {key: one[key] for key, value in wanted.items() if one[key] != value}:
            raise StepError(f"QEMU's process {one} is not confined: {wrong}")
    with step("accesses that it denies to root") as seen:
        group = next(Path("/sys/fs/cgroup").glob("**/polyvisor-*/cgroup.procs"))
        script = f"echo 0 >{group}; echo exec {PROFILE} >/proc/self/attr/exec; exec sh -c '{TRIES}'"
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
        say(f"{done.stdout}{done.stderr}")
        if done.stdout.split() != ["null", "read"]:
            raise StepError(f"of null, read, etc, mount and disk the first two are permitted: {done}")
        kernel = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout
        denied = [line for line in kernel.splitlines() if 'apparmor="DENIED"' in line and PROFILE in line]
        say("\n".join(denied))
        # An older mount asks AppArmor, a newer one is stopped by the capability that it lacks before it asks.
        mounts = next((line for line in denied if 'operation="mount"' in line or 'capname="sys_admin"' in line), "")
        if not mounts or "Operation not permitted" not in done.stderr:
            raise StepError(f"the kernel tells of no denied mount, or the disk was not denied: {denied} {done.stderr}")
        seen(mounts[mounts.index("apparmor=") :][:120])


def use() -> None:
    client = Client(from_kubeconfig(STATE / "kubeconfig"))
    with step("console") as seen, shell(client, NAME) as console:
        seen(console.says("grep -m1 'model name' /proc/cpuinfo", rb"model name\s*: [^\r\n]+(?=[\r\n])")[0].decode())
    with step("pause and unpause") as seen, shell(client, NAME) as console:
        polyvisor("pause", "vmi", NAME)
        console.type("echo again-$((40+3))")
        with suppress(AssertionError):  # nothing was heard in time
            console.until(rb"again-43", QUIET_SECONDS)
            raise StepError("the guest answers while it is paused")
        polyvisor("unpause", "vmi", NAME)
        seen(f"no answer for {QUIET_SECONDS:.0f} s, then {console.until(rb'again-43', CONSOLE_SECONDS)[0].decode()}")
    with step("power off when asked") as seen:
        polyvisor("stop", NAME, "--wait", "--timeout", "300")
        status = json.loads(polyvisor("get", "vm", NAME, "-o", "json"))["status"]["printableStatus"]
        if status != "Stopped":
            raise StepError(f"the VM is {status}")
        seen(f"printableStatus {status}")
    with step("polyvisor down") as seen:
        seen(polyvisor("down").strip().splitlines()[-1])


def main() -> int:
    RESULT["versions"]["Linux"] = os.uname().release
    try:
        for part in (start, boot, *((confined,) if GIVEN["virtType"] == "kvm" else ()), use):
            part()
    except Exception as error:
        RESULT["wrong"] = f"{RESULT['wrong'].partition(':')[0]}: {error}"
        save()
        raise
    RESULT["wrong"] = ""
    save()
    return 0


if __name__ == "__main__":
    say(importlib.metadata.version("polyvisor"))
    sys.exit(main())
