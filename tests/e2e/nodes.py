"""A real Kubernetes with real nodes: the control plane on a bridge, each node in namespaces of its own.

``python -m tests.e2e.nodes`` (as root, from the top of the tree) brings up a cluster with two nodes, the images of
this tree on them and Polyvisor installed, prints where its kubeconfig is and stays until Enter, SIGTERM or the end of
its standard input; then nothing of it is left. ``--nodes N`` takes another number, ``--bare`` leaves Polyvisor out.
In tests, :func:`cluster_with_nodes` is the same as a context manager.

What isn't obvious: no name is resolved anywhere (there is no DNS, and nothing needs it), and no image is pulled:
``tools/images.py`` builds them, and each node gets them from tar files.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tools"))

import images as image_builder  # noqa: E402
from polyvisor.process.certificates import issue_client, issue_server  # noqa: E402
from tests.e2e.cluster import LIFE, Cluster  # noqa: E402
from tests.e2e.node import Node  # noqa: E402
from tests.e2e.node_images import store_of  # noqa: E402

NOT_ON_NODES = {image_builder.SHARED, "launcher-esx"}
POLYVISOR = Path(sys.executable).with_name("polyvisor")
SLOTS = 64
BRIDGE = "pvn"
SECONDS = 180
SYSCTLS = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops")
"""What a kubelet changes on its host, apart from what belongs to its network namespace."""
KEPT_SYSCTLS = Path("/run/polyvisor-nodes-sysctls.json")
KUBELET_CLIENT = "kube-apiserver-kubelet-client"


class NodesCluster(Cluster):
    """The control plane and its nodes. The addresses follow from a number that no other cluster here has."""

    def __init__(self, folder: Path, slot: int) -> None:
        super().__init__(folder, f"10.250.{slot}.1")
        self.slot = slot
        self.bridge = f"{BRIDGE}{slot}"
        self.nodes: list[Node] = []

    def prepare(self) -> None:
        """Make certificates, tokens and the kubeconfig."""
        super().prepare()
        self._keep("kubelet-client", issue_client(self._authority, KUBELET_CLIENT, LIFE))

    def _arguments(self, name: str) -> Sequence[str]:
        found = super()._arguments(name)
        if name != "kube-apiserver":
            return found
        return (
            *found,
            "--kubelet-certificate-authority=ca.crt",
            "--kubelet-client-certificate=kubelet-client.crt",
            "--kubelet-client-key=kubelet-client.key",
            "--kubelet-preferred-address-types=InternalIP",
        )

    def close(self) -> None:
        """End everything at once: a server that is asked to end waits for clients whose power was cut."""
        for name in reversed(list(self._running)):
            self.stop(name, kill=True)

    def add_node(self) -> Node:
        """Describe one more node, with its user and its certificate; call before the API server starts."""
        number = len(self.nodes) + 1
        name = f"node{number}"
        folder = self.folder / name
        pods = f"10.{160 + self.slot}.{number}.0/24"
        node = Node(name, folder, f"{self.bridge}-{number}", f"10.250.{self.slot}.{10 + number}", self.address, pods)
        folder.mkdir()
        self._keep(f"{name}/kubelet", issue_server(self._authority, (name, node.address), LIFE))
        users = {"kubelet": (f"system:node:{name}", "system:nodes"), "kube-proxy": ("system:kube-proxy", "")}
        for program, (user, group) in users.items():
            token = secrets.token_hex(16)
            with (self.folder / "tokens.csv").open("a") as tokens:
                tokens.write(f"{token},{user},{token[:8]}" + (f',"{group}"\n' if group else "\n"))
            (folder / f"{program}.kubeconfig").write_text(self.kubeconfig_for(token))
        self.nodes.append(node)
        return node

    def boot(self, node: Node, store: Path) -> None:
        """Start a node for the first time, with the images of a store."""
        node.prepare(self.bridge, store)
        node.configure(self.ca, node.folder / "kubelet")
        node.boot()
        self.join(node)

    def join(self, node: Node) -> None:
        """Have a node that is on be a part of the cluster, and the others find its Pods."""
        node.start("kubelet")
        node.start("kube-proxy")
        _ip("route", "replace", node.pods, "via", node.address)
        for other in self.nodes:
            if other is not node and (Path("/run/netns") / other.space).exists():
                for one, another in ((node, other), (other, node)):
                    _ip("-n", one.space, "route", "replace", another.pods, "via", another.address)

    def wait_for_nodes(self) -> None:
        """Wait until Kubernetes takes all nodes for ready."""
        names = [f"node/{node.name}" for node in self.nodes]
        deadline = time.monotonic() + SECONDS
        while len(self.kubectl("get", *names, "--output=name", "--ignore-not-found").split()) < len(names):
            assert time.monotonic() < deadline, "\n".join(node.tail("kubelet") for node in self.nodes)
            time.sleep(0.2)
        self.kubectl("wait", "--for=condition=Ready", f"--timeout={SECONDS}s", *names)
        while "node.kubernetes.io/" in self.kubectl("get", *names, "--output=jsonpath={..spec.taints[*].key}"):
            assert time.monotonic() < deadline, "a node is ready and keeps the taint that says it is not"
            time.sleep(0.1)

    def polyvisor(self, *arguments: str | Path, check: bool = True, stdin: str = "", seconds: float = 600) -> str:
        """Run Polyvisor's command line as the administrator; return what it printed."""
        command = [POLYVISOR, f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, input=stdin, timeout=seconds)
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def install(self, *arguments: str) -> str:
        """Install Polyvisor, with QEMU's emulation and LXC allowed; the images have to be on the nodes."""
        drivers = "hypervisors: [{name: qemu}, {name: lxc}]"
        emulation = f"configuration={{developerConfiguration: {{useEmulation: true}}, {drivers}}}"
        return self.polyvisor("install", "--set", emulation, *arguments)


def images(*names: str) -> list[Path]:
    """Build what is not built yet of this tree's images; return the tar files."""
    return image_builder.build(list(names) or [name for name in image_builder.recipes() if name not in NOT_ON_NODES])


@contextmanager
def cluster_with_nodes(
    count: int = 2, tars: Sequence[Path] = (), before: Callable[[NodesCluster], None] | None = None
) -> Iterator[NodesCluster]:
    """Run a control plane and ``count`` nodes that have the images of ``tars``; nothing of it is left.

    ``before`` is called with the cluster before any of its programs starts.
    """
    assert os.geteuid() == 0, "nodes need root: network and mount namespaces, control groups"
    subprocess.run([TOP / "tools/setup", "nodes"], check=True, stdout=subprocess.DEVNULL)
    store = store_of(tars)
    folder = Path(f"/tmp/pvn{os.getpid()}-{secrets.token_hex(2)}")
    folder.mkdir(mode=0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        stack.enter_context(_sysctls_kept())
        slot = stack.enter_context(_bridge())
        one = NodesCluster(folder, slot)
        stack.callback(one.close)
        one.prepare()
        for _ in range(count):
            stack.callback(one.add_node().remove)
        if before is not None:
            before(one)
        for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"):
            one.start(name)
        role = ("--clusterrole=system:kubelet-api-admin", f"--user={KUBELET_CLIENT}")
        one.kubectl("create", "clusterrolebinding", KUBELET_CLIENT, *role)
        for node in one.nodes:
            one.boot(node, store)
        one.wait_for_nodes()
        yield one


@contextmanager
def _bridge() -> Iterator[int]:
    """Make the bridge with the first number that is free; its name is what keeps clusters apart."""
    for slot in range(SLOTS):
        name = f"{BRIDGE}{slot}"
        if _ip("link", "add", name, "type", "bridge", check=False):
            try:
                _ip("addr", "add", f"10.250.{slot}.1/24", "dev", name)
                _ip("link", "set", name, "up")
                yield slot
            finally:
                _ip("link", "del", name)
            return
    raise AssertionError(f"no bridge can be made: {SLOTS} are there already, or there is no right to")


@contextmanager
def _sysctls_kept() -> Iterator[None]:
    """Put back what kubelets change, once the last cluster here has ended; the first one wrote down what there was."""
    before = {name: Path("/proc/sys", name).read_text() for name in SYSCTLS}
    with suppress(FileExistsError), KEPT_SYSCTLS.open("x") as file:
        json.dump(before, file)
    try:
        yield
    finally:
        if not any(Path("/sys/class/net").glob(f"{BRIDGE}*")):
            for name, value in json.loads(KEPT_SYSCTLS.read_text()).items():
                Path("/proc/sys", name).write_text(value)
            KEPT_SYSCTLS.unlink()


def _ip(*command: str, check: bool = True) -> bool:
    done = subprocess.run(("ip", *command), capture_output=True, text=True)
    assert not check or done.returncode == 0, f"ip {' '.join(command)}: {done.stderr.strip()}"
    return done.returncode == 0


def main() -> None:
    """Run a cluster by hand."""
    parser = argparse.ArgumentParser(description="A Kubernetes with real nodes, and Polyvisor on it.")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--bare", action="store_true", help="without Polyvisor and its images")
    given = parser.parse_args()
    read, write = os.pipe()

    def told(_number: int, _frame: FrameType | None) -> None:
        os.write(write, b"x")

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    begin = time.monotonic()
    with cluster_with_nodes(given.nodes, [] if given.bare else images()) as found:
        if not given.bare:
            sys.stdout.write(found.install())
        sys.stdout.write(f"ready after {time.monotonic() - begin:.0f} s; Enter ends it\n")
        sys.stdout.write(f"export KUBECONFIG={found.kubeconfig}\n")
        sys.stdout.flush()
        select.select([sys.stdin, read], [], [])
        begin = time.monotonic()
    sys.stdout.write(f"ended after {time.monotonic() - begin:.0f} s\n")


if __name__ == "__main__":
    main()
