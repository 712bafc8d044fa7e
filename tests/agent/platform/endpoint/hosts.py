"""A hypervisor host of a test: libvirt's daemon and an SSH server, real ones, with files and folders of their own.

Both run in a mount namespace in which libvirt's places are folders of the test, so that the daemon has its usual socket
there and finds nothing of this machine's. From outside it is reached by the socket in the test's folder, by SSH or by
TLS on a port of the loopback interface.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from tests.agent.platform.endpoint.pki import Authority

PLACES = {
    "/run/libvirt": "run",
    "/var/lib/libvirt": "lib",
    "/var/log/libvirt": "log",
    "/var/cache/libvirt": "cache",
    "/etc/libvirt": "etc",
    "/run/lock": "lock",
}
SCRIPT = """
umount /sys/fs/cgroup/unified 2>/dev/null
mkdir -p /run/sshd
while [ "$1" != -- ]; do mkdir -p "$1" "$2"; mount --bind "$1" "$2" || exit 1; shift 2; done
shift
sleep infinity &
echo $! >"$1"
wait
"""
QEMU = """\
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
"""
DAEMON = """\
auth_unix_rw = "none"
listen_tls = 1
listen_addr = "{address}"
tls_port = "{port}"
auth_tls = "none"
key_file = "{key}"
cert_file = "{certificate}"
ca_file = "{authority}"
keepalive_interval = -1
"""
SSHD = """\
Port {port}
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
"""
GUEST = """
<domain type='{kind}'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type>hvm</type></os><devices><console type='pty'/></devices></domain>
"""


def free_port(address: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


class HypervisorHost:
    """The host. ``folder`` has a short path, since sockets stand below it; ``address`` is where it listens."""

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        self.folder = folder
        self.address = address
        self.tls_port, self.ssh_port = free_port(address), free_port(address)
        self.authority = Authority(folder / "pki", address)
        self.socket = folder / "run" / "libvirt-sock"
        self._space: subprocess.Popen[bytes] | None = None
        self._daemon: subprocess.Popen[bytes] | None = None
        self._sshd: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        for below in PLACES.values():
            (self.folder / below).mkdir()
        (self.folder / "etc" / "qemu.conf").write_text(QEMU)
        self.present_certificate()
        self._make_keys()
        pairs = [item for place, below in PLACES.items() for item in (str(self.folder / below), place)]
        pid = self.folder / "space.pid"
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", SCRIPT, "sh", *pairs, "--", str(pid)]
        self._space = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        while not (pid.exists() and pid.read_text().strip()):
            assert self._space.poll() is None, "the namespace of the host could not be made"
            time.sleep(0.01)  # nothing tells when a file is there
        self._inside = ["nsenter", f"--mount=/proc/{pid.read_text().strip()}/ns/mnt", "--"]
        self.start_daemon()
        self.start_sshd()

    def present_certificate(self, name: str = "server", age: timedelta = timedelta()) -> None:
        """Write the daemon's configuration with a certificate of that name; it counts from the daemon's next start."""
        certificate, key = self.authority.server(name, age)
        text = DAEMON.format(
            address=self.address, port=self.tls_port, key=key, certificate=certificate, authority=self.authority.file
        )
        (self.folder / "etc" / "libvirtd.conf").write_text(text)

    def start_daemon(self) -> None:
        log = (self.folder / "daemon.log").open("ab")
        command = ["libvirtd", "--listen", "--config=/etc/libvirt/libvirtd.conf", "--pid-file=/run/libvirt/d.pid"]
        self._daemon = subprocess.Popen([*self._inside, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._await_socket(lambda: _connects(socket.AF_UNIX, str(self.socket)), self._daemon)
        self._await_socket(lambda: _connects(socket.AF_INET, (self.address, self.tls_port)), self._daemon)

    def kill_daemon(self) -> None:
        """End the daemon as a crash does; guests go on."""
        assert self._daemon is not None
        self._daemon.kill()
        self._daemon.wait()

    def stop_daemon(self, number: signal.Signals = signal.SIGSTOP) -> None:
        """Have the daemon hang (SIGSTOP), or go on (SIGCONT)."""
        assert self._daemon is not None
        self._daemon.send_signal(number)

    def start_sshd(self) -> None:
        command = ["/usr/sbin/sshd", "-D", "-e", "-f", str(self.folder / "sshd_config")]
        log = (self.folder / "sshd.log").open("ab")
        self._sshd = subprocess.Popen([*self._inside, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._await_socket(lambda: _connects(socket.AF_INET, (self.address, self.ssh_port)), self._sshd)

    def _await_socket(self, connects: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
        while not connects():
            assert process.poll() is None, (self.folder / "daemon.log").read_text(errors="replace")
            time.sleep(0.02)  # neither program tells when it listens

    def _make_keys(self) -> None:
        for name in ("host_key", "id", "other_id"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)]
            subprocess.run(command, check=True)
        (self.folder / "authorized_keys").write_text((self.folder / "id.pub").read_text())
        (self.folder / "sshd_config").write_text(
            SSHD.format(address=self.address, port=self.ssh_port, folder=self.folder)
        )

    def known_hosts(self, key: str = "host_key") -> str:
        kind, public, *_ = (self.folder / f"{key}.pub").read_text().split()
        return f"[{self.address}]:{self.ssh_port} {kind} {public}\n"

    def key(self, name: str = "id") -> str:
        return (self.folder / name).read_text()

    def virsh(self, *words: str, scheme: str = "qemu") -> str:
        """Run virsh on the host, as somebody who knows nothing of Polyvisor."""
        command = [*self._inside, "virsh", "-q", "-c", f"{scheme}:///system", *words]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def create(self, xml: str, scheme: str = "qemu", *, define: bool = False) -> None:
        file = self.folder / "domain.xml"
        file.write_text(xml)
        self.virsh("define" if define else "create", str(file), scheme=scheme)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program on the host."""
        return subprocess.run([*self._inside, *command], capture_output=True, text=True)

    def stop(self) -> None:
        """End everything, its guests first."""
        if self._daemon is not None and self._daemon.poll() is None:
            self._daemon.send_signal(signal.SIGCONT)
            for scheme in ("qemu", "lxc"):
                listed = self.run("virsh", "-q", "-c", f"{scheme}:///system", "list", "--name")
                for name in listed.stdout.split():
                    self.run("virsh", "-q", "-c", f"{scheme}:///system", "destroy", name)
            self._daemon.terminate()
            self._daemon.wait()
        for process in (self._sshd, self._space):
            if process is not None:
                process.terminate()
                process.wait()
        pid = self.folder / "space.pid"
        if pid.exists():
            os.kill(int(pid.read_text()), signal.SIGTERM)


def _connects(family: int, address: object) -> bool:
    with socket.socket(family) as peer:
        try:
            peer.connect(address)  # type: ignore[arg-type]
        except OSError:
            return False
        return True
