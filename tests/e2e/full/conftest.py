"""One installation with both machines. A module leaves them running, so that the next one need not boot them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyvisor.agent.network.pods import trial
from polyvisor.cli.client import Client
from polyvisor.kube.config import from_kubeconfig
from tests.e2e.guest_shell import true
from tests.e2e.standalone import ROOT, Standalone, standalone
from tests.e2e.test_networks import own_network
from tests.needs import need_root, unmet

from . import machines
from .debian import Debian, debian
from .machines import BOOT_SECONDS, KERNEL, TREE_CLAIM, Way, apply, claim, secret, wait


@pytest.fixture(scope="package")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two SSH keys."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("first", "second"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name],
            check=True,
        )
    return folder


@pytest.fixture(scope="package")
def home(keys: Path) -> Iterator[Standalone]:
    """The installation; both machines have begun to start."""
    need_root()
    if why := trial():
        unmet(f"networks of Pods cannot be made here: {why}")
    found = debian()
    with standalone() as home, own_network():
        add_kernel(home.folder / "images", found)
        disk = home.folder / "hostdisks" / "default" / "root.img"
        disk.parent.mkdir(mode=0o700, parents=True)
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", found.disk, disk], check=True)
        tree = home.folder / "volumes" / "default" / TREE_CLAIM
        tree.parent.mkdir(mode=0o700, parents=True)
        subprocess.run(["cp", "-a", "--reflink=auto", "-T", found.tree, tree], check=True)
        home.run("up", "--network", "bridge")
        try:
            client = Client(from_kubeconfig(home.kubeconfig))
            secret(client, "keys", first=(keys / "first.pub").read_text())
            secret(client, "passwords", debian="from-a-secret")
            key = (keys / "first.pub").read_text().strip()
            apply(home, machines.full(disk), claim(TREE_CLAIM, "1Gi"), machines.box(key))
            yield home
        finally:
            home.run("down")


def add_kernel(images: Path, found: Debian) -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    from oci_layout import Entry, Layout

    layout = Layout(images)
    boot = {
        "boot/vmlinuz": Entry(0o644, found.kernel.read_bytes()),
        "boot/initrd.img": Entry(0o644, found.initrd.read_bytes()),
    }
    layout.name({KERNEL: layout.image(boot, "test")}, "test")


@pytest.fixture
def full(client: Client) -> str:
    """The name of the machine under QEMU, once its agent is there."""
    wait(client, "full", lambda status: true(status, "AgentConnected"), BOOT_SECONDS)
    return "full"


@pytest.fixture
def box(client: Client) -> str:
    """The name of the machine under LXC, once it is ready."""
    wait(client, "box", lambda status: true(status, "Ready"), BOOT_SECONDS)
    return "box"


@pytest.fixture(scope="package")
def ssh(home: Standalone, keys: Path) -> Way:
    """Words in the guests."""
    return Way(home, keys)
