"""KubeVirt's own client, unchanged: all its verbs on one machine of a standalone installation.

It is built from KubeVirt's module of Go. What it says is compared where a user or a script reads it; that it is of
another version than the server it says too, which is so.
"""

from __future__ import annotations

import json
import os
import pty
import select
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from polyvisor import __version__
from polyvisor.cli.client import Client
from polyvisor.kube.errors import ApiError
from tests.needs import unmet

from .agent_guest import add_image
from .goprograms import NoGo, program
from .guest_shell import VMIS, shell, true, until
from .standalone import Standalone, standalone
from .test_daily_use import machine

pytestmark = pytest.mark.e2e

VMS = "/apis/kubevirt.io/v1/namespaces/default/virtualmachines"
CLAIMS = "/api/v1/namespaces/default/persistentvolumeclaims"
SECRETS = "/api/v1/namespaces/default/secrets"
NAME = "talk"
MI = 1 << 20
Obj = dict[str, Any]


class Virtctl:
    """The program, told where the API server is."""

    def __init__(self, path: Path, kubeconfig: Path) -> None:
        self.path = path
        self.environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}

    def tried(self, *arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command, and return what came of it."""
        command = [self.path, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=self.environment, timeout=240, input=stdin)

    def __call__(self, *arguments: str | Path, stdin: str = "") -> str:
        """Run a command that must succeed, and return what it printed."""
        done = self.tried(*arguments, stdin=stdin)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def refused(self, *arguments: str | Path) -> str:
        """Run a command that must fail, and return why it did."""
        done = self.tried(*arguments)
        assert done.returncode, f"{arguments}: {done.stdout}"
        return done.stderr

    @contextmanager
    def running(self, *arguments: str | Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
        """Have a command run, until the end of the block at the latest."""
        command = [self.path, *arguments]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options}
        with subprocess.Popen(command, env=self.environment, text=True, **pipes) as found:
            try:
                yield found
            finally:
                with suppress(ProcessLookupError):
                    found.kill()


@pytest.fixture(scope="module")
def home() -> Iterator[Standalone]:
    try:
        program("virtctl")
    except NoGo as missing:
        unmet(str(missing))
    with standalone() as home:
        add_image(home.folder / "images")
        home.run("up")
        try:
            home.run("apply", "-f", "-", stdin=json.dumps(manifest()))
            yield home
        finally:
            home.run("down")


@pytest.fixture(scope="module")
def virtctl(home: Standalone) -> Virtctl:
    return Virtctl(program("virtctl"), home.kubeconfig)


@pytest.fixture
def talk(client: Client) -> str:
    """The name of the machine, once its agent is there."""
    awaited(client, lambda vmi: true(vmi.get("status") or {}, "AgentConnected"))
    return NAME


def manifest() -> Obj:
    spec = machine(NAME, "qemu")["spec"]
    spec["domain"]["devices"]["clientPassthrough"] = {}
    spec["terminationGracePeriodSeconds"] = 30
    template = {"metadata": {"labels": {"app": NAME}}, "spec": spec}
    metadata = {"name": NAME}
    body = {"runStrategy": "Always", "template": template}
    return {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": metadata, "spec": body}


def awaited(client: Client, holds: Callable[[Obj], Any], path: str = f"{VMIS}/{NAME}") -> Obj:
    """Wait until an object, empty if there is none, is as wanted."""
    deadline = time.monotonic() + 120
    while True:
        try:
            found = client.get(path)
        except ApiError as error:
            if error.code != 404:
                raise
            found = {}
        if holds(found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


def in_phase(phase: str) -> Callable[[Obj], bool]:
    return lambda vmi: (vmi.get("status") or {}).get("phase") == phase


def test_it_is_told_the_version_and_the_devices(virtctl: Virtctl) -> None:
    assert f'Server Version: version.Info{{GitVersion:"v{__version__}"' in virtctl("version")
    assert "Host Devices:" in virtctl("permitted-devices", "--namespace=kubevirt")
    assert "virt-handler=2" in virtctl("adm", "log-verbosity", "--all")


def test_it_is_told_what_the_guest_says(virtctl: Virtctl, talk: str) -> None:
    assert json.loads(virtctl("guestosinfo", talk))["os"]["prettyName"] == "Polyvisor Demo 1 (agent)"
    assert json.loads(virtctl("fslist", talk))["items"][0]["mountPoint"] == "/mnt/demo"
    assert json.loads(virtctl("userlist", talk))["items"] == []


@contextmanager
def terminal(virtctl: Virtctl, name: str) -> Iterator[Callable[[bytes, bytes], None]]:
    """Give what types on a guest's console, which the program joins with a terminal, and awaits an answer."""
    screen, line = pty.openpty()
    heard = b""

    def says(text: bytes, answer: bytes) -> None:
        nonlocal heard
        os.write(screen, text)
        deadline = time.monotonic() + 90
        while answer not in heard:
            assert time.monotonic() < deadline, heard
            if select.select([screen], [], [], 1)[0]:
                heard += os.read(screen, 4096)
        heard = heard.rpartition(answer)[2]

    with virtctl.running("console", name, stdin=line, stdout=line, stderr=line) as console:
        os.close(line)
        says(b"", f"Successfully connected to {name} console".encode())
        yield says
        os.write(screen, b"\x1d")
        assert console.wait(60) == 0
    os.close(screen)


def test_its_console_is_a_terminal(virtctl: Virtctl, talk: str) -> None:
    with terminal(virtctl, talk) as says:
        says(b"\n", b"login: ")
        says(b"root\n", b"# ")
        says(b"echo he''ard\n", b"\nheard")
        says(b"exit\n", b"login: ")


def test_the_screen_is_behind_its_proxy_and_in_its_picture(virtctl: Virtctl, talk: str, tmp_path: Path) -> None:
    with virtctl.running("vnc", talk, "--proxy-only", stderr=subprocess.DEVNULL) as proxy:
        assert proxy.stdout
        port = json.loads(proxy.stdout.readline())["port"]
        with socket.create_connection(("127.0.0.1", port), 10) as viewer:
            viewer.settimeout(60)
            assert viewer.recv(12) == b"RFB 003.008\n"
    virtctl("vnc", "screenshot", talk, f"--file={tmp_path / 'shot.png'}")
    assert (tmp_path / "shot.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_ports_are_forwarded(virtctl: Virtctl, client: Client, talk: str) -> None:
    with shell(client, talk) as console:
        console.says("ip addr show eth0 | grep -q 10.0.2.15 || udhcpc -q -n -i eth0; echo on''line", rb"\nonline")
        console.type("(while :; do echo hello from the guest | nc -l -p 7777; done) >/dev/null 2>&1 &")
        console.says("until netstat -ltn | grep -q :7777; do sleep 0.1; done; echo list''ens", rb"\nlistens")
    deadline = time.monotonic() + 60
    while not (sent := virtctl.tried("port-forward", "--stdio=true", f"vmi/{talk}", "7777").stdout):
        assert time.monotonic() < deadline
    assert sent == "hello from the guest\n"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with virtctl.running("port-forward", f"vm/{talk}/default", f"{port}:7777"):
        heard = b""
        while heard != b"hello from the guest\n":
            assert time.monotonic() < deadline, heard
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 10) as peer:
                peer.settimeout(10)
                heard = peer.recv(64, socket.MSG_WAITALL)


def test_a_slot_for_usb_devices_is_opened(virtctl: Virtctl, talk: str) -> None:
    with virtctl.running("usbredir", "--no-launch", talk) as redirection:
        assert redirection.stdout
        while "User can connect usbredir client at: " not in (said := redirection.stdout.readline()):
            assert said
        host, _, port = said.split()[-1].rpartition(":")
        with socket.create_connection((host, int(port)), 10) as peer:
            peer.settimeout(60)
            assert len(peer.recv(12, socket.MSG_WAITALL)) == 12, "QEMU greets"


def test_disks_come_and_go(home: Standalone, virtctl: Virtctl, client: Client, talk: str) -> None:
    client.request("POST", CLAIMS, claim("more"))
    assert "Successfully submitted add volume request" in virtctl("addvolume", talk, "--volume-name=more")

    def phase(vmi: Obj) -> str | None:
        found = {one["name"]: one for one in vmi["status"].get("volumeStatus") or []}
        return str(found["more"].get("phase")) if "more" in found else None

    awaited(client, lambda vmi: phase(vmi) == "Ready")
    assert "already exists" in virtctl.refused("addvolume", talk, "--volume-name=more")
    assert "Successfully submitted remove volume" in virtctl("removevolume", talk, "--volume-name=more")
    awaited(client, lambda vmi: phase(vmi) is None)


def claim(name: str) -> Obj:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "8Mi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def test_memory_is_dumped_into_a_claim_that_it_makes(
    virtctl: Virtctl, client: Client, talk: str, tmp_path: Path
) -> None:
    said = virtctl("memory-dump", "get", talk, "--claim-name=dump", "--create-claim")
    assert "Successfully submitted memory dump request" in said
    why = virtctl.refused("memory-dump", "download", talk, f"--output={tmp_path / 'dump.gz'}")
    assert "VirtualMachineExport is not implemented by Polyvisor yet" in why, "which it asks for once the dump is there"
    asked = client.get(f"{VMS}/{talk}")["status"]["memoryDumpRequest"]
    assert (asked["claimName"], asked["phase"]) == ("dump", "Completed")
    virtctl("memory-dump", "remove", talk)
    awaited(client, lambda vm: "memoryDumpRequest" not in vm["status"], f"{VMS}/{talk}")


@pytest.mark.parametrize("kind", ["dv", "pvc"])
def test_images_are_uploaded(home: Standalone, virtctl: Virtctl, tmp_path: Path, kind: str) -> None:
    image = tmp_path / "disk.qcow2"
    raw = tmp_path / "disk.raw"
    raw.write_bytes(b"of this machine".ljust(MI, b"\0"))
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, image], check=True)
    said = virtctl("image-upload", kind, f"up-{kind}", "--size=8Mi", f"--image-path={image}", "--insecure")
    assert "Processing completed successfully" in said
    assert (home.folder / f"volumes/default/up-{kind}/disk.img").read_bytes().startswith(b"of this machine")


def test_an_archive_is_uploaded(home: Standalone, virtctl: Virtctl, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("of this machine")
    with tarfile.open(tmp_path / "archive.tar", "w") as tar:
        tar.add(tmp_path / "file", "file")
    where = f"--archive-path={tmp_path / 'archive.tar'}"
    virtctl("image-upload", "pvc", "up-files", "--size=8Mi", where, "--insecure")
    assert (home.folder / "volumes/default/up-files/file").read_text() == "of this machine"


def test_what_it_writes_is_taken(home: Standalone, virtctl: Virtctl, client: Client) -> None:
    written = [
        virtctl("create", "instancetype", "--name=tiny", "--cpu=1", "--memory=64Mi", "--namespaced"),
        virtctl("create", "preference", "--name=plain", "--namespaced", "--cpu-topology=cores"),
        virtctl(
            "create", "vm", "--name=made", "--run-strategy=Halted", "--instancetype=virtualmachineinstancetype/tiny",
            "--preference=virtualmachinepreference/plain", "--volume-import=type:blank,size:8Mi,name:data",
            "--volume-containerdisk=src:localhost/polyvisor/demo-disk:1", "--user=ann", "--ssh-key=ssh-ed25519 AAAA",
        ),
    ]  # fmt: skip
    home.run("apply", "-f", "-", stdin="\n---\n".join(written))
    made = client.get(f"{VMS}/made")["spec"]
    assert made["instancetype"]["name"] == "tiny"
    expanded = yaml.safe_load(virtctl("expand", "--vm=made"))["spec"]
    assert expanded["template"]["spec"]["domain"]["memory"]["guest"] == "64Mi"
    assert "instancetype" not in expanded
    given = home.folder / "made.yaml"
    given.write_text(written[-1])
    assert yaml.safe_load(virtctl("expand", f"--file={given}"))["spec"]["template"]["spec"]["domain"]["memory"] == {
        "guest": "64Mi"
    }
    home.run("delete", "vm", "made")


def test_keys_and_passwords_go_into_secrets_of_the_machine(virtctl: Virtctl, client: Client, talk: str) -> None:
    user, one, two = "--user=root", "--value=ssh-ed25519 AAAA one", "--value=ssh-ed25519 BBBB two"

    def keys() -> list[str]:
        found = [s for s in client.get(SECRETS)["items"] if s["metadata"]["name"].startswith(f"{talk}-ssh-key-")]
        assert len(found) == 1
        return sorted((found[0].get("data") or {}).values())

    assert "--force" in virtctl.refused("credentials", "add-ssh-key", user, one, talk)
    virtctl("credentials", "add-ssh-key", "--create-secret", "--force", user, one, talk)
    first = keys()
    virtctl("credentials", "add-ssh-key", user, two, talk)
    assert len(keys()) == 2
    virtctl("credentials", "remove-ssh-key", user, two, talk)
    assert keys() == first
    assert "no secrets assigned" in virtctl.refused("credentials", "set-password", user, "--password=x", talk)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("vmexport create one --pvc=one", "VirtualMachineExport is not implemented by Polyvisor yet"),
        ("migrate talk", "a standalone installation has one node, and no other to move to"),
        ("migrate-cancel talk", "no migration to cancel"),
        ("objectgraph talk", "objectgraph is not implemented by Polyvisor"),
        ("console nobody", '"nobody" not found'),
    ],
)
def test_what_is_not_there_is_refused_in_words(virtctl: Virtctl, talk: str, arguments: str, words: str) -> None:
    assert words in virtctl.refused(*arguments.split())


def test_machines_are_held_restarted_and_stopped(virtctl: Virtctl, client: Client, talk: str) -> None:
    def uid() -> str:
        return str(client.get(f"{VMIS}/{talk}")["metadata"]["uid"])

    for kind in ("vm", "vmi"):
        virtctl("pause", kind, talk, "--dry-run")
        virtctl("pause", kind, talk)
        until(client, talk, lambda status: true(status, "Paused"))
        assert "already paused" in virtctl.refused("pause", kind, talk)
        virtctl("unpause", kind, talk)
        until(client, talk, lambda status: not true(status, "Paused"))
    before = uid()
    for verb in ("soft-reboot", "reset"):
        with shell(client, talk) as console:
            virtctl(verb, talk)
            console.until(rb"polyvisor-demo: ready", 120)
        awaited(client, lambda vmi: true(vmi["status"], "AgentConnected"))
    assert uid() == before
    assert "already running" in virtctl.refused("start", talk)
    virtctl("restart", talk)
    awaited(client, lambda vmi: vmi and vmi["metadata"]["uid"] != before and in_phase("Running")(vmi))
    virtctl("stop", talk, "--dry-run")
    virtctl("stop", talk, "--force", "--grace-period=0")
    awaited(client, lambda vmi: not vmi)
    assert "not running" in virtctl.refused("stop", talk)
    virtctl("start", talk, "--paused")
    awaited(client, lambda vmi: true(vmi.get("status") or {}, "Paused"))
    virtctl("unpause", "vm", talk)
    virtctl("restart", talk, "--force", "--grace-period=0")
    virtctl("stop", talk)
    awaited(client, lambda vmi: not vmi)
