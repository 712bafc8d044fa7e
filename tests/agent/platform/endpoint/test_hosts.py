"""Endpoints on a real host: SSH, TLS and sockets, real guests, and connections that break."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from polyvisor.agent.platform.endpoint.failures import Failure
from polyvisor.agent.platform.endpoint.plan import Observed
from polyvisor.api import Obj
from tests.agent.platform.endpoint.conftest import Watched, endpoint, secret
from tests.agent.platform.endpoint.hosts import GUEST, HypervisorHost
from tests.agent.platform.endpoint.pki import Authority

pytestmark = pytest.mark.root
CONTAINER = """
<domain type='lxc'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type>exe</type><init>/bin/sleep</init><initarg>inf</initarg></os><devices><console type='pty'/></devices></domain>
"""


def by_ssh(host: HypervisorHost, scheme: str = "qemu", path: str = "system") -> Obj:
    return endpoint(f"{scheme}+ssh://root@127.0.0.1:{host.ssh_port}/{path}", secret=True)


def ssh_secret(host: HypervisorHost, version: int = 1, key: str = "id", known: str = "host_key") -> Obj:
    return secret(version, **{"ssh-privatekey": host.key(key), "known_hosts": host.known_hosts(known)})


def by_tls(host: HypervisorHost, name: str = "127.0.0.1") -> Obj:
    return endpoint(f"qemu+tls://{name}:{host.tls_port}/system", secret=True)


def tls_secret(authority: Authority, version: int = 1, client: Authority | None = None, name: str = "client") -> Obj:
    texts = {"ca__crt": authority.file.read_text()}
    certificate, key = (client or authority).client(name)
    return secret(version, **texts, tls__crt=certificate.read_text(), tls__key=key.read_text())


def by_socket(host: HypervisorHost, scheme: str = "qemu") -> Obj:
    return endpoint(f"{scheme}+unix:///system?socket={host.socket}")


def listed(seen: Observed) -> dict[str, str]:
    return {one.name: one.state for one in seen.domains or ()}


def failure(seen: Observed) -> Failure:
    assert seen.failure is not None
    return seen.failure


def logins(host: HypervisorHost) -> int:
    """How often somebody tried to sign in by SSH."""
    return (host.folder / "sshd.log").read_text().count("Connection closed by authenticating user")


async def test_a_guest_that_virsh_started_is_listed_by_ssh(host: HypervisorHost, watched: Watched) -> None:
    host.create(GUEST.format(kind="qemu", name="by-virsh"))
    try:
        watched.start(by_ssh(host), ssh_secret(host))
        seen = await watched.connected()
        assert listed(seen) == {"by-virsh": "running"}
        assert seen.host is not None
        assert seen.host.uuid
        host.virsh("suspend", "by-virsh")
        await watched.until(lambda seen: listed(seen) == {"by-virsh": "paused"})
    finally:
        host.virsh("destroy", "by-virsh")
    await watched.until(lambda seen: listed(seen) == {})


async def test_a_container_is_listed(host: HypervisorHost, watched: Watched) -> None:
    watched.start(by_ssh(host, "lxc"), ssh_secret(host))
    assert listed(await watched.connected()) == {}
    host.create(CONTAINER.format(name="box"), "lxc")
    try:
        await watched.until(lambda seen: listed(seen) == {"box": "running"})
    finally:
        host.virsh("destroy", "box", scheme="lxc")


async def test_libvirts_test_driver_is_reached_by_ssh(host: HypervisorHost, watched: Watched) -> None:
    watched.start(by_ssh(host, "test", "default"), ssh_secret(host))
    assert listed(await watched.connected()) == {"test": "running"}


async def test_the_mark_of_another_installation_is_seen(host: HypervisorHost, watched: Watched) -> None:
    host.create(GUEST.format(kind="qemu", name="marked"), define=True)
    try:
        watched.start(by_socket(host))
        assert [one.owner for one in (await watched.connected()).domains or ()] == [""]
        mark = "<owner cluster='another'/>"
        uri = "http://hypervisor.kubevirt.io/owner/1.0"
        host.virsh("metadata", "marked", uri, "--config", "--key", "polyvisor", "--set", mark)
        await watched.until(lambda seen: [one.owner for one in seen.domains or ()] == ["another"])
    finally:
        host.virsh("undefine", "marked")


async def test_a_refused_key_is_not_tried_again_until_it_changes(host: HypervisorHost, watched: Watched) -> None:
    before = logins(host)
    watched.start(by_ssh(host), ssh_secret(host, key="other_id"))
    seen = await watched.failed("CredentialsRefused")
    assert failure(seen).message.startswith("root@127.0.0.1: Permission denied (publickey")
    for _ in range(2):  # the Secret goes and comes back as it was
        watched.keeper.update(by_ssh(host), None)
        await watched.failed("SecretNotFound")
        watched.keeper.update(by_ssh(host), ssh_secret(host, key="other_id"))
        await watched.failed("CredentialsRefused")
    assert logins(host) == before + 1
    watched.keeper.update(by_ssh(host), ssh_secret(host, 2))
    assert (await watched.connected()).good is not None


@pytest.mark.parametrize(("known", "reason"), [("other_id", "HostKeyChanged"), ("", "CredentialsIncomplete")])
async def test_a_host_with_another_key_is_not_trusted(
    host: HypervisorHost, watched: Watched, known: str, reason: str
) -> None:
    given = ssh_secret(host, known=known) if known else secret(**{"ssh-privatekey": host.key()})
    watched.start(by_ssh(host), given)
    assert failure(await watched.failed(reason)).aspect == "Authenticated"


async def test_a_host_that_is_not_among_the_known_ones_is_not_trusted(host: HypervisorHost, watched: Watched) -> None:
    values = {"ssh-privatekey": host.key(), "known_hosts": host.known_hosts().replace("127.0.0.1", "192.0.2.1")}
    watched.start(by_ssh(host), secret(**values))
    await watched.failed("HostKeyNotKnown")


async def test_keys_are_in_no_file_while_the_connection_is_open(host: HypervisorHost, watched: Watched) -> None:
    watched.start(by_ssh(host), ssh_secret(host))
    await watched.connected()
    assert sorted(path.name for path in watched.keeper.folder.rglob("*")) == ["launcher.log", "private-1.sock"]
    assert "PRIVATE KEY" not in (watched.keeper.folder / "launcher.log").read_text()


async def test_a_host_is_reached_by_tls(host: HypervisorHost, watched: Watched) -> None:
    watched.start(by_tls(host), tls_secret(host.authority))
    seen = await watched.connected()
    assert seen.host is not None
    assert seen.host.encrypted


async def test_a_tls_host_of_another_authority_or_name_is_not_trusted(
    host: HypervisorHost, watched: Watched, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other")
    watched.start(by_tls(host), secret(ca__crt=other.file.read_text()))
    await watched.failed("CertificateNotTrusted")
    watched.keeper.update(by_tls(host, "localhost"), tls_secret(host.authority, 2))
    await watched.until(lambda seen: seen.tried is not None and seen.tried.version == "2")
    await watched.failed("CertificateNotTrusted")


async def test_a_tls_host_refuses_whom_it_does_not_know(host: HypervisorHost, watched: Watched, tmp_path: Path) -> None:
    watched.start(by_tls(host), secret(ca__crt=host.authority.file.read_text()))
    await watched.failed("ClientCertificateRefused")
    stranger = Authority(tmp_path / "stranger")
    watched.keeper.update(by_tls(host), tls_secret(host.authority, 2, client=stranger))
    await watched.failed("ClientCertificateInvalid")


async def test_new_credentials_are_used_at_once_and_bad_ones_leave_the_connection(
    host: HypervisorHost, watched: Watched
) -> None:
    watched.start(by_ssh(host), ssh_secret(host, 1))
    await watched.connected()
    watched.keeper.update(by_ssh(host), ssh_secret(host, 2))
    await watched.until(lambda seen: seen.good is not None and seen.good.version == "2")
    pid = watched.keeper.launcher_pid
    watched.keeper.update(by_ssh(host), ssh_secret(host, 3, key="other_id"))
    seen = await watched.until(lambda seen: seen.refused is not None)
    assert seen.failure is None
    assert seen.good is not None
    assert seen.good.version == "2"
    assert watched.keeper.launcher_pid == pid
    # the connection breaks, and the last good credentials open another
    os.kill(pid, signal.SIGKILL)
    await watched.until(lambda seen: watched.keeper.launcher_pid not in (0, pid) and seen.failure is None)


async def test_a_daemon_that_dies_is_a_state_and_its_guests_are_found_again(
    host: HypervisorHost, watched: Watched
) -> None:
    host.create(GUEST.format(kind="qemu", name="survivor"))
    try:
        watched.start(by_socket(host))
        (before,) = (await watched.connected()).domains or ()
        host.kill_daemon()
        seen = await watched.until(lambda seen: seen.failure is not None)
        assert failure(seen).aspect == "Reachable"
        assert listed(seen) == {"survivor": "running"}  # what was last seen is not forgotten
        await watched.failed("NoDaemon")
        host.start_daemon()
        (after,) = (await watched.connected()).domains or ()
        assert (after.uuid, after.id, after.state) == (before.uuid, before.id, "running")
    finally:
        host.virsh("destroy", "survivor")


async def test_a_daemon_that_hangs_is_noticed_and_comes_back(host: HypervisorHost, watched: Watched) -> None:
    watched.start(by_tls(host), tls_secret(host.authority))
    await watched.connected()
    host.stop_daemon()
    try:
        seen = await watched.until(lambda seen: seen.failure is not None)
        assert failure(seen).aspect == "Reachable"
    finally:
        host.stop_daemon(signal.SIGCONT)
    await watched.connected()
