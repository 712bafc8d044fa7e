"""A launcher without any rights, in a Pod's network namespace, runs a guest on the tap that the agent made for it.

The namespace is the test's own and plays a Pod with IPv4 and IPv6.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from polyvisor.agent.images.store import ImageStore
from polyvisor.agent.link import containers
from polyvisor.agent.network.dhcp import Resolver
from polyvisor.agent.network.pods import PodNetworks, sources, trial
from polyvisor.api import VirtualMachineInstance
from polyvisor.domain import DomainContext, domain_name, domain_uuid, render
from polyvisor.drivers.qemu import QemuDriver
from polyvisor.testing import Client
from tests.agent.network.conftest import OUTSIDE, OUTSIDE6, POD, POD6, Net, ask, listening, net, with_ipv6
from tests.agent.network.test_pods import ID, LAUNCHER, UID, belongs
from tests.folders import short_folder

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import guest_images
from oci_layout import Entry, Tree

from tests.needs import need, open_tree, unmet

__all__ = ["net"]

USER = 64055
KERNEL = "localhost/polyvisor/demo-kernel:1"
DRIVER = QemuDriver()
# a container is given the device by a device plugin, for everybody in it
INSIDE = """
mknod $0/tun c 10 200 && chmod 666 $0/tun && mount --bind $0/tun /dev/net/tun &&
exec setpriv --reuid {user} --regid {user} --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs \
    {python} -P -m polyvisor.launcher $0
"""
CLIENT = "/sbin/dhclient"
LEASED = """#!/bin/sh
case $reason in BOUND6) ip address add $new_ip6_address/128 dev $interface;; esac
"""
"""What the client of DHCPv6 does with what it is told; the guest's busybox has no such client."""


def with_client(initrd: bytes) -> bytes:
    """Put a client of DHCPv6, this machine's own with its libraries, before a guest's initramfs."""
    need("dhclient")
    program = shutil.which("dhclient") or CLIENT
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    libraries = [word for line in said.splitlines() for word in line.split() if word.startswith("/")]
    tree: Tree = {name.lstrip("/"): Entry(0o755, Path(name).resolve().read_bytes()) for name in libraries}
    tree |= {CLIENT[1:]: Entry(0o755, Path(program).read_bytes()), "sbin/leased": Entry(0o755, LEASED.encode())}
    archive = guest_images.cpio(tree)
    return archive + bytes(-len(archive) % 512) + initrd


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as found:
        found.chmod(0o755)
        yield found


def test_a_guest_of_a_launcher_without_rights(
    net: Net, folder: Path, store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why := trial():
        unmet(f"networks of Pods cannot be made here: {why}")
    card = {"name": "default", "masquerade": {}, "ports": [{"port": 8080}]}
    spec: dict[str, Any] = {
        "domain": {
            "memory": {"guest": "96Mi"},
            "cpu": {"cores": 2},
            "devices": {"interfaces": [card], "networkInterfaceMultiqueue": True},
            "firmware": {"kernelBoot": {"kernelArgs": "console=ttyS0 quiet", "container": {"image": "k"}}},
        },
        "networks": [{"name": "default", "pod": {}}],
    }
    metadata = {"name": "one", "namespace": "default", "uid": "11111111-2222-3333-4444-555555555555"}
    obj = {"metadata": metadata, "spec": spec}
    vmi = VirtualMachineInstance.model_validate(obj)
    for name, path in (("vmlinuz", "/boot/vmlinuz"), ("initrd", "/boot/initrd.img")):
        shutil.copy(store.file(KERNEL, path), folder / name)
        (folder / name).chmod(0o644)
    (folder / "initrd").write_bytes(with_client((folder / "initrd").read_bytes()))
    with_ipv6(net)
    plan = asdict(DRIVER.launcher(folder))
    domain = {"name": domain_name(vmi), "uuid": domain_uuid(vmi)}
    (folder / "plan.json").write_text(json.dumps({**plan, "protocol": 1, "driver": "qemu", "domain": domain}))
    for path in (folder, folder / "plan.json"):
        os.chown(path, USER, USER)
    monkeypatch.setattr(containers, "PROC", tmp_path / "proc")
    belongs(tmp_path / "proc", net.pod.pid, UID)
    networks = PodNetworks(tmp_path / "networks", Resolver())
    asyncio.run(networks.open())
    link: Any = SimpleNamespace(pid=net.pod.pid, user=USER, gid=USER, active=False, closed=False)
    script = INSIDE.format(user=USER, python=sys.executable)
    inside = ["unshare", "--mount", "sh", "-c", script, os.fspath(folder)]
    command = [*open_tree(), "nsenter", f"--net=/proc/{net.pod.pid}/ns/net", "--", *inside]
    environment = {**os.environ, "HOME": os.fspath(folder), "XDG_RUNTIME_DIR": os.fspath(folder)}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        cards = asyncio.run(networks.join(ID, obj, LAUNCHER, link, DRIVER))
        assert cards[0].queues == 2
        client = Client(folder)
        context = DomainContext("qemu", kernel=folder / "vmlinuz", initrd=folder / "initrd", cards=sources(cards))
        assert client.result("start", xml=render(vmi, DRIVER, context))["state"] == "running"
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert f"Uid:\t{USER}\t{USER}" in status
        assert "CapEff:\t0000000000000000" in status
        console = client.console()
        said(console, b"", b"login: ")
        said(console, b"root\n", b"# ")
        said(console, b"until ip -4 address show eth0 | grep inet; do sleep 0.2; done\n", b"inet 10.0.2.2/24")
        said(
            console,
            b"mkdir /w; echo here >/w/index.html; httpd -p 8080 -h /w; httpd -p 9090 -h /w; echo serv''ing\n",
            b"serving",
        )
        said(console, b"until ip -6 route | grep default; do sleep 0.2; done\n", b"default via fe80::")
        # dhclient speaks from the link's own address, which is not used while it may be another's, too
        said(console, b"while ip -6 a show eth0 | grep tentative; do sleep 0.2; done; echo set''tled\n", b"settled")
        said(
            console,
            b"mkdir -p /var/lib/dhcp; touch /leases; dhclient -6 -1 -lf /leases -pf /pid -sf /sbin/leased eth0; "
            b"ip -6 address show eth0\n",
            b"inet6 fd10:0:2::2/128",
        )
        assert page(net, 8080).endswith("here\n")
        assert page(net, 8080, POD6).endswith("here\n")
        assert ask(net.outside, POD6, 9090, 5) == "ConnectionRefusedError"
        with listening(net.outside, 80, version=6):
            said(console, f"nc {OUTSIDE6} 80 </dev/null; echo do''ne\n".encode(), POD6.encode())
        assert ask(net.outside, POD, 9090, 5) == "ConnectionRefusedError"
        with listening(net.outside, 80):
            said(console, f"nc {OUTSIDE} 80 </dev/null; echo do''ne\n".encode(), POD.encode())
    finally:
        closing = Client(folder)
        closing.ask("destroy")
        closing.ask("quit")
        process.wait(20)
        asyncio.run(networks.release(ID))


def said(console: Any, typed: bytes, wanted: bytes) -> None:
    """Type on the console and read until it has said what is wanted."""
    console.sendall(typed)
    heard = b""
    while wanted not in heard:
        try:
            data = console.recv(4096)
        except TimeoutError:
            data = b""
        assert data, heard
        heard += data


def page(net: Net, port: int, address: str = POD) -> str:
    """Fetch a page from outside the Pod."""
    with net.outside.namespace.socket(socket.SOCK_STREAM, 6 if ":" in address else 4) as peer:
        peer.settimeout(10)
        peer.connect((address, port))
        peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
        heard = b""
        while data := peer.recv(4096):
            heard += data
    return heard.decode()
