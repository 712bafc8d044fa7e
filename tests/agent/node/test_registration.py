"""What a Node shows follows the probes: those that were out of time are repeated, late answers are written down."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.files.watching import changes
from polyvisor.agent.node import registration as nodes
from polyvisor.agent.node.registration import NodeKeeper, capacity
from polyvisor.api import node_names
from polyvisor.drivers.base import ProbeResult
from polyvisor.kube.backoff import Backoff
from polyvisor.kube.errors import UNREACHABLE, ApiError
from polyvisor.kube.tasks import end_task

from .test_prober import FAILS, WORKS, Played, impatient

Obj = dict[str, Any]


class Server:
    """An API server that holds one Node, and may be out of reach for some calls."""

    def __init__(self) -> None:
        self.node: Obj = {"metadata": {"name": "n1", "uid": "1", "labels": {}, "annotations": {}}}
        self.lost = 0
        self.written = asyncio.Event()

    async def get(self, *_: Any) -> Obj:
        return copy.deepcopy(self.node)

    async def patch(self, _: Any, __: str, body: Obj, *___: Any, **____: Any) -> Obj:
        if self.lost:
            self.lost -= 1
            raise ApiError(0, UNREACHABLE, "ConnectTimeout")
        for field, values in (body.get("metadata") or {}).items():
            for key, value in values.items():
                self.node["metadata"][field][key] = value
                if value is None:
                    del self.node["metadata"][field][key]
        self.written.set()
        return self.node

    async def shows(self, driver: str, version: str) -> None:
        """Wait until the Node shows that a driver works."""
        label = f"hypervisor.kubevirt.io/{driver}.version"
        async with asyncio.timeout(30):
            while self.node["metadata"]["labels"].get(label) != version:
                self.written.clear()
                await self.written.wait()


@asynccontextmanager
async def kept(server: Server, keeper: NodeKeeper) -> AsyncIterator[None]:
    task = asyncio.create_task(keeper.run())
    try:
        yield
    finally:
        await end_task(task)


def keeper_of(server: Server, folder: Path, driver: Played) -> NodeKeeper:
    return NodeKeeper(server, "n1", [driver], folder)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "PROBE_AGAIN", Backoff(0.0, 0.0))


async def test_a_probe_that_was_out_of_time_is_repeated(tmp_path: Path) -> None:
    server, late = Server(), ProbeResult(False, "libvirt did not answer", again=True)
    async with kept(server, keeper_of(server, tmp_path, Played("one", late, late, WORKS))):
        await server.shows("one", "1")


async def test_an_answer_that_comes_late_is_written_and_told_even_if_the_server_was_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, driver, told = Server(), Played("one", WORKS, held=True), []
    keeper = keeper_of(server, tmp_path, driver)
    monkeypatch.setattr(keeper.prober, "_deadline", impatient)
    keeper.changed = lambda: told.append(1)
    async with kept(server, keeper):
        await keeper.probed.wait()
        assert "has not ended" in server.node["metadata"]["annotations"]["hypervisor.kubevirt.io/drivers"]
        told.clear()
        server.lost = 1
        driver.go.set()
        await server.shows("one", "1")
    assert told


async def test_what_is_installed_later_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not all that a driver needs is there at once: a package comes before those that it depends on."""
    server, driver = Server(), Played("one", FAILS, FAILS, FAILS, WORKS)
    program = tmp_path / "program"
    monkeypatch.setattr(driver, "watched", (str(program),), raising=False)
    keeper = keeper_of(server, tmp_path, driver)
    monkeypatch.setattr(keeper, "watch", partial(keeper.watch, 0.01))
    async with kept(server, keeper):
        await keeper.probed.wait()
        program.write_text("#!/bin/sh\n")
        await server.shows("one", "1")


@pytest.mark.parametrize("how", ["a file comes", "a folder gains a file", "a file is replaced by one of another size"])
async def test_changes_of_files_and_folders_are_noticed(tmp_path: Path, how: str) -> None:
    folder, path = tmp_path / "folder", tmp_path / "path"
    folder.mkdir()
    if "replaced" in how:
        path.write_text("old")
    watching = changes([folder, path], seconds=0.01)
    noticed = asyncio.ensure_future(anext(watching))
    await asyncio.sleep(0)
    if "folder" in how:
        (folder / "more").touch()
    else:
        path.write_text("something new")
    async with asyncio.timeout(30):
        await noticed


def test_a_device_that_launchers_here_do_without_need_not_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host has /dev/vhost-net when its module is loaded, which no virtual machine of this node waits for."""
    places = {
        "kvm": tmp_path / "kvm",
        "tun": tmp_path / "tun",
        "vhost-net": tmp_path / "v",
        "vhost-vsock": tmp_path / "s",
    }
    monkeypatch.setattr(node_names, "DEVICES", {name: str(path) for name, path in places.items()})
    prefix = node_names.DEVICE_PREFIX
    assert {name for name in capacity(tmp_path) if name.startswith(prefix)} == {f"{prefix}tun", f"{prefix}vhost-net"}
    (tmp_path / "kvm").touch()
    assert capacity(tmp_path)[f"{prefix}kvm"] == "1k"
