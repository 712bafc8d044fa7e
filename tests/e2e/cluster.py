"""A real Kubernetes on loopback: etcd and kube-apiserver, and as asked controllers, the scheduler and kwok's nodes.

Everything lies in one folder with a short path and ends with it. The API server is reached with an administrator's
token over TLS; it has what an aggregated API needs (a front proxy's certificate) and writes its log beside the others.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from urllib.error import URLError

import yaml

from polyvisor.drivers.pace import Deadline
from polyvisor.process.certificates import issue_client, issue_server, make_authority
from polyvisor.process.pairs import Pair
from tests.e2e.goprograms import OLDER, PROGRAMS, program

LIFE = timedelta(days=7)
SECONDS = 60
PORTS = range(15000, 30000)
"""Below what net.ipv4.ip_local_port_range begins with, and what Services of type NodePort have."""
KUBECTL = Path(sys.executable).with_name("kubectl")
SERVICES = "10.96.0.0/24"
NAMES = ("localhost", "127.0.0.1", "10.96.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
HEADERS = (
    "--requestheader-username-headers=X-Remote-User",
    "--requestheader-group-headers=X-Remote-Group",
    "--requestheader-extra-headers-prefix=X-Remote-Extra-",
    "--requestheader-allowed-names=front-proxy-client",
)


class Cluster:
    """The control plane. ``start`` and ``stop`` are for single programs, by name."""

    def __init__(self, folder: Path, address: str = "127.0.0.1", *, older: bool = False) -> None:
        self.folder = folder
        self.older = older
        self.address = address
        self.kubeconfig = folder / "kubeconfig"
        self.port, self._etcd, self._peer = free_port(), free_port(), free_port()
        self.token = secrets.token_hex(16)
        self.extra: dict[str, Sequence[str]] = {}
        """Further arguments, by program."""
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._authority = make_authority("cluster", LIFE)

    @property
    def programs(self) -> dict[str, subprocess.Popen[bytes]]:
        """The programs that run, by name."""
        return dict(self._running)

    @property
    def url(self) -> str:
        """Where the API server listens."""
        return f"https://{self.address}:{self.port}"

    @property
    def etcd_url(self) -> str:
        """Where etcd listens."""
        return f"http://127.0.0.1:{self._etcd}"

    @property
    def ca(self) -> Path:
        """The authority behind the API server's certificate."""
        return self.folder / "ca.crt"

    def prepare(self) -> None:
        """Make certificates, tokens and the kubeconfig."""
        self._keep("ca", self._authority)
        self._keep("api", issue_server(self._authority, (*NAMES, self.address), LIFE))
        front = make_authority("front-proxy", LIFE)
        self._keep("front-ca", front)
        self._keep("front", issue_client(front, "front-proxy-client", LIFE))
        self._keep("sa", issue_client(self._authority, "service-accounts", LIFE))
        (self.folder / "tokens.csv").write_text(f"{self.token},admin,admin,system:masters\n")
        self.kubeconfig.write_text(self.kubeconfig_for(self.token))
        self.kubeconfig.chmod(0o600)

    def kubeconfig_for(self, token: str) -> str:
        """Return a kubeconfig with that token."""
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "e2e", "cluster": {"server": self.url, "certificate-authority": str(self.ca)}}],
                "users": [{"name": "e2e", "user": {"token": token}}],
                "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "e2e"}}],
                "current-context": "e2e",
            }
        )

    def start(self, name: str) -> None:
        """Start a program of the control plane, or kwok; return when it serves, as far as that can be told."""
        log = (self.folder / f"{name}.log").open("ab")
        older = self.older and f"{OLDER}{name}" in PROGRAMS
        command = [program(f"{OLDER}{name}" if older else name), *self._arguments(name), *self.extra.get(name, ())]
        self._running[name] = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True)
        if name == "kube-apiserver":
            self.wait_ready()

    def stop(self, name: str, *, kill: bool = False) -> None:
        """End a program."""
        process = self._running.pop(name)
        process.kill() if kill else process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """End everything, the API server's clients first."""
        for name in reversed(list(self._running)):
            self.stop(name)

    def wait_ready(self) -> None:
        """Wait until the API server says that it is ready."""
        deadline = Deadline(SECONDS)
        context = ssl.create_default_context(cafile=str(self.ca))
        request = urllib.request.Request(f"{self.url}/readyz", headers={"Authorization": f"Bearer {self.token}"})
        while True:
            process = self._running["kube-apiserver"]
            assert process.poll() is None, self.tail("kube-apiserver")
            try:
                with urllib.request.urlopen(request, timeout=5, context=context) as answer:
                    if answer.read() == b"ok":
                        return
            except (URLError, OSError):
                pass
            assert not deadline.passed, self.tail("kube-apiserver")
            time.sleep(0.05)

    def tail(self, name: str, lines: int = 20) -> str:
        """Return the end of a program's log."""
        return "\n".join((self.folder / f"{name}.log").read_text(errors="replace").splitlines()[-lines:])

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl as the administrator; return what it printed."""
        done = subprocess.run(
            [KUBECTL, f"--kubeconfig={self.kubeconfig}", *arguments],
            capture_output=True,
            text=True,
            input=stdin,
            timeout=120,
            env={**os.environ, "HOME": str(self.folder)},
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout + (done.stderr if not check else "")

    def _keep(self, name: str, pair: Pair) -> None:
        (self.folder / f"{name}.crt").write_bytes(pair.certificate)
        key = self.folder / f"{name}.key"
        key.write_bytes(pair.key)
        key.chmod(0o600)

    def _arguments(self, name: str) -> Sequence[str]:
        client = f"--kubeconfig={self.kubeconfig}"
        local = ("--bind-address=127.0.0.1", f"--secure-port={free_port()}")
        return {
            "etcd": (
                "--data-dir=etcd",
                f"--listen-client-urls=http://127.0.0.1:{self._etcd}",
                f"--advertise-client-urls=http://127.0.0.1:{self._etcd}",
                f"--listen-peer-urls=http://127.0.0.1:{self._peer}",
                f"--initial-advertise-peer-urls=http://127.0.0.1:{self._peer}",
                f"--initial-cluster=default=http://127.0.0.1:{self._peer}",
                "--unsafe-no-fsync",
                "--log-level=warn",
            ),
            "kube-apiserver": (
                f"--etcd-servers=http://127.0.0.1:{self._etcd}",
                f"--bind-address={self.address}",
                f"--secure-port={self.port}",
                "--tls-cert-file=api.crt",
                "--tls-private-key-file=api.key",
                "--client-ca-file=ca.crt",
                "--token-auth-file=tokens.csv",
                "--authorization-mode=Node,RBAC",
                "--service-account-key-file=sa.crt",
                "--service-account-signing-key-file=sa.key",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-cluster-ip-range={SERVICES}",
                "--allow-privileged=true",
                "--requestheader-client-ca-file=front-ca.crt",
                "--proxy-client-cert-file=front.crt",
                "--proxy-client-key-file=front.key",
                "--enable-aggregator-routing=true",
                *HEADERS,
            ),
            "kube-controller-manager": (
                client,
                *local,
                "--service-account-private-key-file=sa.key",
                "--root-ca-file=ca.crt",
                "--use-service-account-credentials=true",
                "--cluster-signing-cert-file=ca.crt",
                "--cluster-signing-key-file=ca.key",
                "--node-monitor-grace-period=1h",  # nobody renews the Leases of nodes that are played
                "--leader-elect=false",
            ),
            "kube-scheduler": (client, *local, "--leader-elect=false"),
            "kwok": (
                client,
                "--manage-all-nodes=false",
                "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
                f"--server-address=127.0.0.1:{free_port()}",
                f"--config={Path(__file__).with_name('kwok.yaml')}",
            ),
        }[name]


def free_port() -> int:
    """Return a port of loopback that nothing listens on now, none of those that the kernel gives to connections."""
    while True:
        port = secrets.choice(PORTS)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def cluster(*programs: str, older: bool = False) -> Iterator[Cluster]:
    """Run etcd, kube-apiserver and the named further programs; nothing of them is left.

    ``older`` takes them from the oldest release of Kubernetes that is tried.
    """
    folder = Path(f"/tmp/pvc{os.getpid()}-{secrets.token_hex(2)}")
    folder.mkdir(mode=0o700)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        one = Cluster(folder, older=older)
        stack.callback(one.close)
        one.prepare()
        for name in ("etcd", "kube-apiserver", *programs):
            one.start(name)
        yield one
