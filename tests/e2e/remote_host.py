"""A host without a kubelet, reached by SSH, and an installation of this machine's to add it to: fixtures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agent.platform.endpoint.hosts import HypervisorHost
from tests.folders import short_folder
from tests.needs import need, need_root

from .standalone import Standalone, standalone


def by_ssh(host: HypervisorHost) -> tuple[str, ...]:
    """Return what `endpoint add` is told of the host: its URI, and files with key and known hosts."""
    (host.folder / "known").write_text(host.known_hosts())
    uri = f"qemu+ssh://root@127.0.0.1:{host.ssh_port}/system"
    return uri, "--identity", str(host.folder / "id"), "--known-hosts", str(host.folder / "known")


@pytest.fixture(scope="module")
def host() -> Iterator[HypervisorHost]:
    need_root()
    need("libvirtd", "virsh", "/usr/sbin/sshd", "ssh-keygen")
    with short_folder() as folder:
        found = HypervisorHost(folder)
        try:
            found.start()
            found.virsh("pool-define-as", "images", "dir", "--target", "/var/lib/libvirt/images")
            found.virsh("pool-build", "images")
            found.virsh("pool-start", "images")
            yield found
        finally:
            found.stop()


@pytest.fixture(scope="module")
def home() -> Iterator[Standalone]:
    with standalone() as home:
        home.run("up")
        try:
            yield home
        finally:
            home.run("down")
