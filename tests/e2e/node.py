"""One real node: kubelet, containerd and kube-proxy in network, mount, host name and process namespaces of their own.

The node's first process holds the namespaces, so that killing it is a power cut: everything on the node ends with it
and its mounts vanish. Beside that, a node has a folder (what a disk would hold), and control groups below one name.
What isn't obvious: ``/var`` is an overlay, so that folders which kubelet and containerd make there stay out of the
host's, and what has to lie on a real file system is bound over it; the control groups stay the host's, because a
container runtime does not find its way in a remounted hierarchy.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.goprograms import program
from tests.e2e.node_images import PAUSE, copy_store

SECONDS = 120
CGROUPS = Path("/sys/fs/cgroup")
KEPT = ("kubelet", "containerd", "cni", "polyvisor")
"""Folders of /var/lib that are the node's own."""
SOCKET = "/run/containerd/containerd.sock"
ENTER = """
set -e
mount --make-rprivate /
mount -t overlay -o lowerdir=/var,upperdir={folder}/var,workdir={folder}/work overlay /var
mount -t tmpfs tmpfs /run
for name in {kept}; do mkdir -p /var/lib/$name; mount --bind {folder}/lib/$name /var/lib/$name; done
mount --make-rshared /
hostname {name}
ip link set lo up
echo 1 > /proc/sys/net/ipv4/ip_forward
echo > {folder}/entered
while :; do sleep infinity & wait $!; done
"""


class Node:
    """A node of a cluster, by its number. ``files`` is the folder of the cluster's certificates and kubeconfigs."""

    def __init__(self, name: str, folder: Path, space: str, address: str, gateway: str, pods: str) -> None:
        self.name = name
        self.folder = folder
        self.space = space
        self.address = address
        self.gateway = gateway
        self.pods = pods
        second, third = pods.split(".")[1:3]
        self.pods6 = f"fd00:{second}:{third}::/64"
        """What the node's Pods have of IPv6, which is not routed to other nodes."""
        self._first: subprocess.Popen[bytes] | None = None

    # --- the machine --------------------------------------------------------------------------------------------------

    def prepare(self, bridge: str, store: Path) -> None:
        """Make what outlives a power cut: folders, the network, configuration; ``store`` has the images."""
        for name in ("var", "work", "cni", *(f"lib/{kept}" for kept in KEPT)):
            (self.folder / name).mkdir(parents=True)
        copy_store(store, self.folder / "lib/containerd")
        _run("ip", "netns", "add", self.space)
        _run("ip", "link", "add", self.space, "type", "veth", "peer", "name", "eth0", "netns", self.space)
        _run("ip", "link", "set", self.space, "master", bridge, "up")
        for command in (
            ("addr", "add", f"{self.address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("route", "add", "default", "via", self.gateway),
        ):
            _run("ip", "-n", self.space, *command)
        (self.folder / "cni" / "pods.conflist").write_text(json.dumps(_network(self.pods, self.pods6)))
        (self.folder / "containerd.toml").write_text(_containerd(self.folder))

    def boot(self) -> None:
        """Start the machine: its namespaces, and in them containerd."""
        (self.folder / "entered").unlink(missing_ok=True)
        for hierarchy in _hierarchies():
            _make_group(hierarchy / self.space)
        script = ENTER.format(folder=self.folder, name=self.name, kept=" ".join(KEPT))
        spaces = ("--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc")
        command = ["nsenter", f"--net=/run/netns/{self.space}", "unshare", *spaces, "bash", "-c", script]
        log = (self.folder / "machine.log").open("ab")
        self._first = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self._until((self.folder / "entered").exists, "machine")
        self.start("containerd")
        self._until(lambda: self.run("ctr", "--address", SOCKET, "version", check=False).returncode == 0, "containerd")

    def cut(self) -> None:
        """Cut the power: everything that runs on the node is killed at once. :meth:`boot` brings it back."""
        if self._first is not None:
            os.killpg(self._first.pid, signal.SIGKILL)
            self._first.wait()
            self._first = None

    def remove(self) -> None:
        """Cut the power, and take the node's network and control groups away."""
        self.cut()
        _run("ip", "netns", "del", self.space, check=False)
        _run("ip", "link", "del", self.space, check=False)
        for hierarchy in _hierarchies():
            _remove_group(hierarchy / self.space)

    # --- its programs -------------------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start one of the node's programs."""
        command = " ".join(map(str, self._command(name)))
        script = f"echo $$ > {self.folder}/{name}.pid; exec {command} >> {self.folder}/{name}.log 2>&1"
        self.run("setsid", "--fork", "sh", "-c", script)

    def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        """End one of them; what it started goes on."""
        self.run("kill", f"-{int(number)}", (self.folder / f"{name}.pid").read_text().strip())

    def run(
        self, *command: str | Path, check: bool = True, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the node as its administrator would."""
        entered = ["nsenter", f"--target={self.pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--", *command]
        done = subprocess.run(entered, capture_output=True, text=True, input=stdin, timeout=SECONDS)
        assert not check or done.returncode == 0, f"{self.name}: {command}: {done.stdout}{done.stderr}"
        return done

    def load(self, image: Path) -> None:
        """Bring an image to the node, from a tar file."""
        self.run("ctr", "--address", SOCKET, "--namespace", "k8s.io", "images", "import", "--no-unpack", image)

    def processes(self) -> list[str]:
        """Return the command lines of all that runs on the node."""
        found = []
        for line in (self.root / "proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                found.append(line.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip())
        return [command for command in found if command]

    def mounts(self) -> list[str]:
        """Return the places of the node's mounts."""
        return [line.split()[1] for line in Path(f"/proc/{self.pid}/mounts").read_text().splitlines()]

    @property
    def root(self) -> Path:
        """The node's files as its processes see them."""
        return Path(f"/proc/{self.pid}/root")

    def tail(self, name: str, lines: int = 20) -> str:
        """Return the end of a program's log."""
        log = self.folder / f"{name}.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""

    @property
    def pid(self) -> int:
        """The process id of the node's first process, as the host counts."""
        assert self._first is not None, f"{self.name} is off"
        children = Path(f"/proc/{self._first.pid}/task/{self._first.pid}/children").read_text().split()
        return int(children[0])

    def configure(self, authority: Path, tls: Path) -> None:
        """Write the kubelet's configuration; certificate and key lie at ``tls`` with their endings."""
        (self.folder / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet(self, authority, tls)))

    def _command(self, name: str) -> Sequence[str | Path]:
        if name == "containerd":
            return ("containerd", "--config", self.folder / "containerd.toml")
        common = (program(name), f"--kubeconfig={self.folder}/{name}.kubeconfig", f"--hostname-override={self.name}")
        if name == "kubelet":
            return (*common, f"--config={self.folder}/kubelet.yaml", f"--node-ip={self.address}")
        return (*common, "--proxy-mode=iptables", "--masquerade-all", "--conntrack-max-per-core=0")

    def _until(self, check: Callable[[], bool], name: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not check():
            assert self._first is not None
            assert self._first.poll() is None, f"{self.name} ended: {self.tail('machine')}"
            assert time.monotonic() < deadline, f"{self.name}: {name} does not come up: {self.tail(name)}"
            time.sleep(0.05)


def _run(*command: str, check: bool = True) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"


def _network(pods: str, pods6: str) -> dict[str, Any]:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": pods}], [{"subnet": pods6}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        },
    }
    return {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}],
    }


def _containerd(folder: Path) -> str:
    # Not every machine that runs tests may lower a process's oom_score_adj.
    return f"""\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
"""


def _kubelet(node: Node, authority: Path, tls: Path) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.space}",
        "failCgroupV1": False,
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{tls}.crt",
        "tlsPrivateKeyFile": f"{tls}.key",
        "podLogsDir": "/var/log/pods",
        "volumePluginDir": f"{node.folder}/plugins",
        "resolvConf": "",
        "nodeStatusUpdateFrequency": "4s",
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi"},
        "registerWithTaints": [],
    }


def _hierarchies() -> list[Path]:
    """Return the roots of the host's control groups: one, or one a controller."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [path for path in CGROUPS.iterdir() if path.is_dir()]


def _make_group(folder: Path) -> None:
    """Make a node's control group; what a cpuset may use is not inherited."""
    folder.mkdir(exist_ok=True)
    if folder.parent.name == "cpuset":
        for name in ("cpuset.cpus", "cpuset.mems"):
            (folder / name).write_text((folder.parent / name).read_text())


def _remove_group(folder: Path) -> None:
    """Remove a node's control groups, from the innermost; its processes may take a moment to end."""
    deadline = time.monotonic() + SECONDS
    while folder.is_dir():
        for path, _, _ in os.walk(folder, topdown=False):
            try:
                os.rmdir(path)  # noqa: PTH106
            except OSError:
                assert time.monotonic() < deadline, f"processes are left in {path}"
        time.sleep(0.05)
