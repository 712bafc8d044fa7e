"""A real guest moves from one launcher to another, as between two nodes: with nothing but sockets between them."""

from __future__ import annotations

import array
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from polyvisor.api import VirtualMachineInstance
from polyvisor.domain import DiskSource, DomainContext, render
from polyvisor.domain.moved import moved
from polyvisor.drivers import registry
from polyvisor.drivers.base import Driver, Verdict
from polyvisor.drivers.pace import Deadline
from tests.drivers.conftest import DRIVERS
from tests.drivers.kit import Bench, Client, bench, machine

READY = b"polyvisor-demo: ready"
MOVABLE = [
    one.name
    for one in registry()
    if (found := one.features.get("lifecycle.live-migration")) and found.verdict == Verdict.SUPPORTED
]
MOVED_HERE = [name for name in MOVABLE if name in DRIVERS]
pytestmark = pytest.mark.parametrize("driver", MOVED_HERE, indirect=True, scope="session")


def stream(folder: Path, operation: str, **arguments: object) -> socket.socket:
    """Return the connection that a launcher hands over."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(60)
        peer.connect(os.fspath(folder / "launcher.sock"))
        for message in ({"hello": {"versions": [1]}}, {"id": 1, "op": operation, **arguments}):
            peer.sendall(json.dumps(message).encode() + b"\n")
        text = b""
        while True:
            data, controls, _, _ = peer.recvmsg(65536, socket.CMSG_LEN(4))
            assert data, text
            text += data
            for _, _, content in controls:
                return socket.socket(fileno=array.array("i", content)[0])
            assert b'"error"' not in text, text


def join(one: socket.socket, other: socket.socket) -> list[threading.Thread]:
    """Copy both ways until both sides have ended."""

    def copy(source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)

    threads = [threading.Thread(target=copy, args=pair, daemon=True) for pair in ((one, other), (other, one))]
    for thread in threads:
        thread.start()
    return threads


def types(console: socket.socket, text: bytes, answer: bytes) -> None:
    """Type something, and read until the guest has answered."""
    console.sendall(text)
    said = b""
    while answer not in said:
        said += console.recv(1000)


def talkative(driver: Driver) -> VirtualMachineInstance:
    return machine(driver, {"firmware": {"kernelBoot": {"kernelArgs": "console=ttyS0"}}})


@contextmanager
def two(driver: Driver, vmi: VirtualMachineInstance, scratch: Path) -> Iterator[tuple[Bench, Bench]]:
    with bench(driver, vmi, scratch, name="a") as here, bench(driver, vmi, scratch, name="b") as there:
        yield here, there


def until(agent: Client, *words: str) -> str:
    """Wait for one of the monitor's words for how far a move is."""
    state = agent.result("state")
    while state.get("moving") not in words:
        state = agent.read().get("event") or state
    return str(state["moving"])


def receiving(source: Client, target: Client, vmi: VirtualMachineInstance, driver: Driver, boot: DomainContext) -> None:
    portable = source.result("portable")["xml"]
    target.result("receive", xml=moved(portable, render(vmi, driver, boot), vmi, driver))


def test_a_guest_moves_and_goes_on(driver: Driver, bootable: DomainContext, scratch: Path) -> None:
    vmi = talkative(driver)
    with two(driver, vmi, scratch / driver.name) as (here, there):
        source, target = here.launch(), there.launch()
        source.result("start", xml=render(vmi, driver, bootable))
        here.says(READY)
        receiving(source, target, vmi, driver, bootable)
        assert target.result("state")["state"] == "paused"
        join(stream(here.folder, "send", options={}), stream(there.folder, "incoming"))
        assert until(source, "sent", "failed") == "sent"
        assert until(target, "received", "failed") == "received"
        assert source.result("state")["state"] == "paused"
        assert target.result("state")["state"] == "paused"
        assert source.result("progress")["progress"]["transferred"] > 1 << 20
        source.result("destroy")
        assert target.result("resume")["state"] == "running"
        console = Client(there.folder).console()
        for text, answer in ((b"\n", b"login: "), (b"root\n", b"# "), (b"echo sum $((40 + 2)).\n", b"sum 42.")):
            types(console, text, answer)


def test_a_guest_moves_back(driver: Driver, bootable: DomainContext, scratch: Path) -> None:
    """What a domain was started with to wait for its state does not come along on its next move."""
    vmi = talkative(driver)
    with two(driver, vmi, scratch / driver.name) as (here, there):
        source, target = here.launch(), there.launch()
        source.result("start", xml=render(vmi, driver, bootable))
        here.says(READY)
        receiving(source, target, vmi, driver, bootable)
        join(stream(here.folder, "send", options={}), stream(there.folder, "incoming"))
        until(target, "received")
        source.result("destroy")
        target.result("resume")
        with bench(driver, vmi, scratch / driver.name, name="c") as third:
            again = third.launch()
            receiving(target, again, vmi, driver, bootable)
            join(stream(there.folder, "send", options={"converge": True}), stream(third.folder, "incoming"))
            assert until(again, "received", "failed") == "received"
            target.result("destroy")
            assert again.result("resume")["state"] == "running"


def test_a_guest_whose_target_is_lost_goes_on_where_it_was(
    driver: Driver, bootable: DomainContext, scratch: Path
) -> None:
    vmi = talkative(driver)
    with two(driver, vmi, scratch / driver.name) as (here, there):
        source, target = here.launch(), there.launch()
        source.result("start", xml=render(vmi, driver, bootable))
        here.says(READY)
        receiving(source, target, vmi, driver, bootable)
        join(stream(here.folder, "send", options={}), stream(there.folder, "incoming"))
        until(source, "sent")
        until(target, "received")
        target.result("destroy")
        assert source.ask("resume")["error"]["code"] == "moving", "it may be the target's, for all that is known here"
        source.result("stay")
        assert source.result("resume")["state"] == "running"
        assert source.result("state")["state"] == "running"


def test_sending_is_given_up(driver: Driver, bootable: DomainContext, scratch: Path) -> None:
    vmi = talkative(driver)
    with two(driver, vmi, scratch / driver.name) as (here, there):
        source, target = here.launch(), there.launch()
        source.result("start", xml=render(vmi, driver, bootable))
        here.says(READY)
        receiving(source, target, vmi, driver, bootable)
        join(stream(here.folder, "send", options={"bandwidth": 65536}), stream(there.folder, "incoming"))
        until(source, "active")
        assert source.ask("send", options={})["error"]["code"] == "moving"
        source.result("cancel")
        assert until(source, "cancelled", "failed") == "cancelled"
        assert source.result("state")["state"] == "running"
        target.until("shutoff")


def test_what_a_guest_wrote_to_a_disk_of_its_node_goes_along(
    driver: Driver, bootable: DomainContext, scratch: Path, tmp_path: Path
) -> None:
    devices = {"disks": [{"name": "data", "disk": {"bus": "virtio"}}]}
    volumes = [{"name": "data", "emptyDisk": {"capacity": "8Mi"}}]
    boot = {"firmware": {"kernelBoot": {"kernelArgs": "console=ttyS0"}}, "devices": devices}
    vmi = machine(driver, boot, volumes=volumes)

    def on(node: str) -> DomainContext:
        path = tmp_path / f"{node}.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "8M"], check=True)
        return replace(bootable, disks={"data": DiskSource(path, "qcow2")})

    with two(driver, vmi, scratch / driver.name) as (here, there):
        source, target = here.launch(), there.launch()
        source.result("start", xml=render(vmi, driver, on("a")))
        here.says(READY)
        console = Client(here.folder).console()
        for text, answer in (
            (b"\n", b"login: "),
            (b"root\n", b"# "),
            (b"echo kept-here | dd of=/dev/vda bs=512 seek=100 conv=fsync && echo writ''ten\n", b"written"),
        ):
            types(console, text, answer)
        portable = source.result("portable")["xml"]
        xml = moved(portable, render(vmi, driver, on("b")), vmi, driver)
        target.result("receive", xml=xml, disks=["ua-data"])
        join(stream(here.folder, "copy", disk="ua-data"), stream(there.folder, "incoming-disk"))
        deadline = Deadline(60)
        while (disks := source.result("progress")["progress"]["disks"]) != {"ua-data": "ready"}:
            assert not deadline.passed, disks
            time.sleep(0.05)
        types(console, b"echo later-on | dd of=/dev/vda bs=512 seek=200 conv=fsync && echo mo''re\n", b"more")
        join(stream(here.folder, "send", options={}), stream(there.folder, "incoming"))
        assert until(source, "pre-switchover", "failed") == "pre-switchover"
        source.result("switch")
        assert until(source, "sent", "failed") == "sent"
        assert until(target, "received", "failed") == "received"
        source.result("destroy")
        assert target.result("resume")["state"] == "running"
        console = Client(there.folder).console()
        types(console, b"\n", b"# ")
        read = (
            b"for n in 100 200; do dd if=/dev/vda bs=512 skip=$n count=1 iflag=direct 2>/dev/null | head -n 1; done\n"
        )
        console.sendall(b"echo 3 >/proc/sys/vm/drop_caches; " + read)
        said = b""
        while b"kept-here\r" not in said or b"later-on\r" not in said:
            said += console.recv(1000)
