"""A whole Debian in daily use, booted under QEMU and under LXC: cloud-init, SSH, the guest's agent, keys, passwords."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from polyvisor.cli.client import Client
from polyvisor.cli.console import connected
from polyvisor.kube.config import from_kubeconfig

from .full_guest import Debian, debian
from .guest_shell import Shell, true, until
from .standalone import BIN, ROOT, Standalone, standalone

pytestmark = pytest.mark.e2e

KERNEL = "localhost/polyvisor/debian-kernel:1"
VMIS = "/apis/kubevirt.io/v1/namespaces/default/virtualmachineinstances"
SECRETS = "/api/v1/namespaces/default/secrets"
EVENTS = "/api/v1/namespaces/default/events"
BOOT_SECONDS = 300
PAUSE_SECONDS = 5
LETTER = 8
"""How many rows of pixels a letter of the text console has at least."""
TREE = "debian-tree"
PASSWORD = """\
password: from-cloud-init
chpasswd: {expire: false}
"""
USER_DATA = """\
#cloud-config
write_files:
- path: /etc/written
  content: |
    by cloud-init
"""
"""The image's user is ``debian``."""


def machine(disk: Path) -> dict[str, Any]:
    container = {"image": KERNEL, "kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd.img"}
    arguments = "root=/dev/vda rw console=tty0 console=ttyS0 quiet"
    by_agent = {"qemuGuestAgent": {"users": ["debian"]}}
    spec = {
        "hypervisor": {"driver": "qemu"},
        "hostname": "full",
        "terminationGracePeriodSeconds": 60,
        "domain": {
            "cpu": {"cores": 2},
            "memory": {"guest": "512Mi"},
            "firmware": {"kernelBoot": {"kernelArgs": arguments, "container": container}},
            "devices": {
                "disks": [
                    {"name": "root", "disk": {"bus": "virtio"}},
                    {"name": "seed", "disk": {"bus": "virtio"}},
                ],
                "interfaces": [{"name": "default", "masquerade": {}}],
                "rng": {},
            },
        },
        "networks": [{"name": "default", "pod": {}}],
        "readinessProbe": {"tcpSocket": {"port": 22}, "periodSeconds": 2, "timeoutSeconds": 10},
        "accessCredentials": [
            {"sshPublicKey": {"source": {"secret": {"secretName": "keys"}}, "propagationMethod": by_agent}},
            {
                "userPassword": {
                    "source": {"secret": {"secretName": "passwords"}},
                    "propagationMethod": {"qemuGuestAgent": {}},
                }
            },
        ],
        "volumes": [
            {"name": "root", "hostDisk": {"path": str(disk), "type": "Disk"}},
            {"name": "seed", "cloudInitNoCloud": {"userData": USER_DATA}},
        ],
    }
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "full"},
        "spec": {"runStrategy": "Always", "template": {"metadata": {"labels": {"app": "full"}}, "spec": spec}},
    }


def new_key(folder: Path, name: str) -> str:
    """Make an SSH key and return its public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name], check=True)
    return (folder / f"{name}.pub").read_text().strip()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("first", "second"):
        new_key(folder, name)
    return folder


def container() -> list[dict[str, Any]]:
    """The same tree under LXC: a claim that holds it, and the machine."""
    resources = {"requests": {"storage": "1Gi"}}
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": TREE},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": resources},
    }
    spec = {
        "hypervisor": {"driver": "lxc"},
        "hostname": "box",
        "terminationGracePeriodSeconds": 60,
        "domain": {"memory": {"guest": "512Mi"}, "devices": {}},
        "volumes": [
            {"name": "root", "persistentVolumeClaim": {"claimName": TREE}},
            {"name": "seed", "cloudInitNoCloud": {"userData": USER_DATA + PASSWORD}},
        ],
    }
    return [
        claim,
        {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": {"name": "box"},
            "spec": spec,
        },
    ]


@pytest.fixture(scope="module")
def home(keys: Path) -> Iterator[Standalone]:
    found = debian()
    with standalone() as home:
        add_kernel(home.folder / "images", found)
        (home.folder / "hostdisks").mkdir(mode=0o700)
        disk = home.folder / "hostdisks" / "root.img"
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", found.disk, disk], check=True)
        tree = home.folder / "volumes" / "default" / TREE
        tree.parent.mkdir(mode=0o700, parents=True)
        subprocess.run(["cp", "-a", "--reflink=auto", "-T", found.tree, tree], check=True)
        home.run("up")
        try:
            yield home
        finally:
            home.run("down")


def add_kernel(images: Path, found: Debian) -> None:
    import sys

    sys.path.insert(0, str(ROOT / "tools"))
    from oci_layout import Entry, Layout

    layout = Layout(images)
    boot = {
        "boot/vmlinuz": Entry(0o644, found.kernel.read_bytes()),
        "boot/initrd.img": Entry(0o644, found.initrd.read_bytes()),
    }
    layout.name({KERNEL: layout.image(boot, "test")}, "test")


def secret(client: Client, name: str, **data: str) -> None:
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
    try:
        client.request("POST", SECRETS, body)
    except Exception:
        client.request("PUT", f"{SECRETS}/{name}", body)


@pytest.fixture(scope="module")
def client(home: Standalone) -> Client:
    return Client(from_kubeconfig(home.kubeconfig))


@pytest.fixture(scope="module")
def full(home: Standalone, client: Client, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of the machine, booted and with its agent there."""
    secret(client, "keys", first=(keys / "first.pub").read_text())
    secret(client, "passwords", debian="from-a-secret")
    file = tmp_path_factory.mktemp("manifests") / "full.json"
    file.write_text(json.dumps(machine(home.folder / "hostdisks" / "root.img")))
    home.run("apply", "-f", file)
    wait(client, "full", lambda status: true(status, "AgentConnected"), BOOT_SECONDS)
    return "full"


def wait(client: Client, name: str, reached: Callable[[dict[str, Any]], Any], seconds: float = 90) -> dict[str, Any]:
    """Wait until a machine's instance is there and as wanted."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return until(client, name, reached, max(0.1, deadline - time.monotonic()))
        except Exception:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.2)


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    return next((entry for entry in status.get("conditions") or [] if entry["type"] == kind), {})


def ssh(home: Standalone, keys: Path, command: str, key: str = "first") -> subprocess.CompletedProcess[str]:
    """Run a command in the guest by SSH through the port forwarding."""
    words = [str(BIN / "polyvisor"), "ssh", "debian@vmi/full", "-i", str(keys / key), "-c", command]
    for option in ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes", "IdentitiesOnly=yes"):
        words += ["-t", f"-o{option}"]
    environment = {**os.environ, "POLYVISOR_STATE_DIR": str(home.folder)}
    return subprocess.run(words, capture_output=True, text=True, env=environment, timeout=180)


def test_cloud_init_was_applied_as_ssh_tells(home: Standalone, client: Client, full: str, keys: Path) -> None:
    wait(client, full, lambda status: true(status, "AccessCredentialsSynchronized"), 120)
    wait(client, full, lambda status: true(status, "Ready"), 120)
    done = ssh(home, keys, "cat /etc/written; hostname; id -un; cloud-init status --wait >/dev/null; cloud-init status")
    assert done.stdout.split() == ["by", "cloud-init", "full", "debian", "status:", "done"], done


def test_the_agent_tells_of_debian(home: Standalone, client: Client, full: str) -> None:
    status = wait(client, full, lambda status: "guestOSInfo" in status)
    assert status["guestOSInfo"]["id"] == "debian"
    assert status["guestOSInfo"]["kernelRelease"].endswith("cloud-amd64")
    info = json.loads(home.run("guestosinfo", full))
    assert info["hostname"] == "full"
    mounts = {each["mountPoint"]: each["fileSystemType"] for each in json.loads(home.run("fslist", full))["items"]}
    assert mounts["/"] == "ext4"


def test_a_password_out_of_a_secret_opens_the_console(client: Client, full: str) -> None:
    with connected(client, "default", full) as websocket:
        console = Shell(websocket)
        console.type("")
        console.until(rb"login: ")
        console.type("debian")
        console.until(rb"Password: ")
        console.type("from-a-secret")
        console.until(rb"\$ ", 120)
        console.says("echo lo''gged in as $USER", rb"logged in as debian")
        console.type("exit")


def test_keys_follow_their_secret(home: Standalone, client: Client, full: str, keys: Path) -> None:
    secret(client, "keys", second=(keys / "second.pub").read_text())
    deadline = time.monotonic() + 120
    while (done := ssh(home, keys, "echo in", "second")).returncode:
        assert time.monotonic() < deadline, done.stderr
    assert done.stdout == "in\n"
    refused = ssh(home, keys, "echo in", "first")
    assert refused.returncode != 0
    assert "Permission denied" in refused.stderr


def test_a_secret_that_is_gone_is_told(client: Client, full: str) -> None:
    client.request("DELETE", f"{SECRETS}/passwords")
    status = wait(client, full, lambda s: condition(s, "AccessCredentialsSynchronized").get("status") == "False", 60)
    assert (
        "Secret passwords of the access credentials does not exist"
        in condition(status, "AccessCredentialsSynchronized")["message"]
    )
    secret(client, "passwords", debian="another")
    wait(client, full, lambda status: true(status, "AccessCredentialsSynchronized"), 60)


def test_a_screenshot_shows_the_login_and_its_letters(home: Standalone, full: str, tmp_path: Path) -> None:
    file = tmp_path / "shot.png"
    home.run("vnc", "screenshot", full, "-f", file)
    data = file.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    lit = {number for number, line in enumerate(lines_of(data)) if len(set(line[1:])) > 1}
    assert len(lit) >= 2 * LETTER, "two lines of text are on the screen: the system's name, and the question"


def lines_of(picture: bytes) -> list[bytes]:
    """Return the rows of a PNG of eight bits a colour, as they were filtered."""
    width, height = struct.unpack(">II", picture[16:24])
    pixels, place = b"", 8
    while place < len(picture):
        (length,), kind = struct.unpack(">I", picture[place : place + 4]), picture[place + 4 : place + 8]
        pixels += picture[place + 8 : place + 8 + length] if kind == b"IDAT" else b""
        place += 12 + length
    rows, size = zlib.decompress(pixels), 1 + 3 * width
    assert len(rows) == height * size
    return [rows[number * size : (number + 1) * size] for number in range(height)]


def test_a_pause_holds_the_guests_clock(home: Standalone, client: Client, full: str, keys: Path) -> None:
    def uptime() -> float:
        return float(ssh(home, keys, "cat /proc/uptime", "second").stdout.split()[0])

    before, began = uptime(), time.monotonic()
    home.run("pause", "vmi", full)
    wait(client, full, lambda status: true(status, "Paused"))
    held = time.monotonic()
    time.sleep(PAUSE_SECONDS)
    held = time.monotonic() - held
    home.run("unpause", "vmi", full)
    wait(client, full, lambda status: not true(status, "Paused"))
    assert uptime() - before < time.monotonic() - began - held + 1


def test_power_down_is_the_guests_own(home: Standalone, client: Client, full: str) -> None:
    home.run("stop", full)
    deadline = time.monotonic() + 120
    while "The VirtualMachineInstance was shut down." not in messages(client, full):
        assert time.monotonic() < deadline, messages(client, full)
        time.sleep(0.2)


def messages(client: Client, name: str) -> list[str]:
    return [e["message"] for e in client.get(EVENTS)["items"] if e["involvedObject"]["name"] == name]


def test_the_same_debian_lives_under_lxc(home: Standalone, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "box.json"
    file.write_text("\n---\n".join(json.dumps(each) for each in container()))
    home.run("apply", "-f", file)
    wait(client, "box", lambda status: status.get("phase") == "Running")
    deadline = time.monotonic() + 120
    while "Reached target" not in (said := home.run("logs", "box")) or "cloud-init.target" not in said:
        assert time.monotonic() < deadline, said[-1500:]
        time.sleep(0.5)
    with connected(client, "default", "box") as websocket:
        console = Shell(websocket)
        console.type("")
        console.until(rb"login: ")
        console.type("debian")
        console.until(rb"Password: ")
        console.type("from-cloud-init")
        console.until(rb"\$ ")
        console.says("cat /etc/written; hostname; systemctl is-active ssh", rb"by cloud-init\r\nbox\r\nactive")
        console.type("exit")
    home.run("delete", "vmi", "box")
    deadline = time.monotonic() + 120
    while "The VirtualMachineInstance was shut down." not in messages(client, "box"):
        assert time.monotonic() < deadline, messages(client, "box")
        time.sleep(0.2)
