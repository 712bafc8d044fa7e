"""The two machines with a whole Debian, and what tests have of them: words over SSH, a shell on the console, states."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polyvisor.cli.client import Client
from polyvisor.cli.console import connected
from tests.e2e.guest_shell import Shell, until
from tests.e2e.standalone import BIN, Standalone

Obj = dict[str, Any]
KERNEL = "localhost/polyvisor/debian-kernel:1"
VMIS = "/apis/kubevirt.io/v1/namespaces/default/virtualmachineinstances"
SECRETS = "/api/v1/namespaces/default/secrets"
EVENTS = "/api/v1/namespaces/default/events"
BOOT_SECONDS = 300
ROOT_CLAIM, MORE_CLAIM, TREE_CLAIM = "debian", "more", "debian-tree"
USER_DATA = """\
#cloud-config
write_files:
- path: /etc/written
  content: |
    by cloud-init
"""
"""The image's user is ``debian``."""
PASSWORD = """\
password: from-cloud-init
chpasswd: {expire: false}
"""
READY_BY_SSH = {
    "readinessProbe": {"tcpSocket": {"port": 22}, "periodSeconds": 2, "timeoutSeconds": 10, "failureThreshold": 2}
}
CARD = {"name": "default", "masquerade": {}}
POD = {"name": "default", "pod": {}}


def full(root: Path) -> Obj:
    """The machine under QEMU, with its root on a disk of this host."""
    container = {"image": KERNEL, "kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd.img"}
    arguments = "root=/dev/vda rw console=tty0 console=ttyS0 quiet"
    by_agent = {"qemuGuestAgent": {"users": ["debian"]}}
    password = {"source": {"secret": {"secretName": "passwords"}}, "propagationMethod": {"qemuGuestAgent": {}}}
    return vm(
        "full",
        {
            "hypervisor": {"driver": "qemu"},
            "hostname": "full",
            "domain": {
                "cpu": {"cores": 2},
                "memory": {"guest": "512Mi"},
                "firmware": {"kernelBoot": {"kernelArgs": arguments, "container": container}},
                "devices": {
                    "disks": [
                        {"name": "root", "disk": {"bus": "virtio"}},
                        {"name": "seed", "disk": {"bus": "virtio"}},
                    ],
                    "interfaces": [CARD],
                    "rng": {},
                },
            },
            "accessCredentials": [
                {"sshPublicKey": {"source": {"secret": {"secretName": "keys"}}, "propagationMethod": by_agent}},
                {"userPassword": password},
            ],
            "volumes": [
                {"name": "root", "hostDisk": {"path": str(root), "type": "Disk"}},
                {"name": "seed", "cloudInitNoCloud": {"userData": USER_DATA}},
            ],
        },
    )


def box(key: str) -> Obj:
    """The machine under LXC, with its root in a claim."""
    seed = f"{USER_DATA}{PASSWORD}ssh_authorized_keys: [{key}]\n"
    return vm(
        "box",
        {
            "hypervisor": {"driver": "lxc"},
            "hostname": "box",
            "domain": {"memory": {"guest": "512Mi"}, "devices": {"interfaces": [CARD]}},
            "volumes": [
                {"name": "root", "persistentVolumeClaim": {"claimName": TREE_CLAIM}},
                {"name": "seed", "cloudInitNoCloud": {"userData": seed}},
            ],
        },
    )


def vm(name: str, spec: Obj) -> Obj:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 120, "networks": [POD], **READY_BY_SSH, **spec},
    }
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name},
        "spec": {"runStrategy": "Always", "template": template},
    }


def claim(name: str, size: str) -> Obj:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def apply(home: Standalone, *objects: Obj) -> None:
    home.run("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, objects)))


def secret(client: Client, name: str, **data: str) -> None:
    """Create or replace a Secret."""
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
    try:
        client.request("POST", SECRETS, body)
    except Exception:
        client.request("PUT", f"{SECRETS}/{name}", body)


def wait(client: Client, name: str, reached: Callable[[Obj], Any], seconds: float = 90) -> Obj:
    """Wait until a machine's instance is there and as wanted."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return until(client, name, reached, max(0.1, deadline - time.monotonic()))
        except Exception:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.2)


def condition(status: Obj, kind: str) -> Obj:
    return next((entry for entry in status.get("conditions") or [] if entry["type"] == kind), {})


def messages(client: Client, name: str) -> list[str]:
    return [e["message"] for e in client.get(EVENTS)["items"] if e["involvedObject"]["name"] == name]


class Way:
    """Words in a guest by SSH, through the port forwarding."""

    def __init__(self, home: Standalone, keys: Path) -> None:
        self._home = home
        self.keys = keys
        self.key = "first"
        """Which key is used."""

    def tried(self, name: str, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the guest, and return what came of it."""
        words = [str(BIN / "polyvisor"), "ssh", f"debian@vmi/{name}", "-i", str(self.keys / self.key), "-c", command]
        options = (
            "StrictHostKeyChecking=no UserKnownHostsFile=/dev/null BatchMode=yes IdentitiesOnly=yes LogLevel=ERROR"
        )
        for option in options.split():
            words += ["-t", f"-o{option}"]
        environment = {**os.environ, "POLYVISOR_STATE_DIR": str(self._home.folder)}
        return subprocess.run(words, capture_output=True, text=True, env=environment, timeout=180)

    def __call__(self, name: str, command: str) -> str:
        """Run a command in the guest that must succeed, and return what it printed."""
        done = self.tried(name, command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def until(self, name: str, command: str, seen: Callable[[str], Any], seconds: float = BOOT_SECONDS) -> str:
        """Run a command until what it prints is as wanted; the guest need not be there yet."""
        deadline = time.monotonic() + seconds
        while (done := self.tried(name, command)).returncode or not seen(done.stdout):
            assert time.monotonic() < deadline, f"{command}: {done.stdout}{done.stderr}"
            time.sleep(0.5)
        return done.stdout

    def boot(self, name: str) -> str:
        """Return what the guest's kernel calls this boot."""
        return self(name, "cat /proc/sys/kernel/random/boot_id")


@contextmanager
def logged_in(client: Client, name: str, password: str) -> Iterator[Shell]:
    """Have a shell of the user on the serial console."""
    with connected(client, "default", name) as websocket:
        console = Shell(websocket)
        console.type("")
        console.until(rb"login: ")
        console.type("debian")
        console.until(rb"Password: ")
        console.type(password)
        console.until(rb"\$ ", 120)
        try:
            yield console
        finally:  # whoever comes next is asked for a name again
            console.type("exit")
        console.until(rb"login: ", 120)
