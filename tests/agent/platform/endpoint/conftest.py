"""Real hosts, and keepers of endpoints on them whose statuses can be awaited."""

from __future__ import annotations

import asyncio
import base64
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.platform.endpoint.keeper import Keeper
from polyvisor.agent.platform.endpoint.plan import Observed
from polyvisor.api import Obj
from polyvisor.drivers import DriverRegistry, registry
from polyvisor.kube.backoff import Backoff
from tests.agent.platform.endpoint.hosts import HypervisorHost
from tests.folders import short_folder
from tests.needs import need, need_root

PLUGIN = Path(__file__).parents[3] / "plugin"
SOON = Backoff(0.05, 0.2)


@pytest.fixture(scope="session")
def host() -> Iterator[HypervisorHost]:
    """A host with libvirt's daemon and an SSH server; tests leave its domains as they found them."""
    need_root()
    need("libvirtd", "virsh", "/usr/sbin/sshd", "ssh-keygen")
    with short_folder() as folder:
        found = HypervisorHost(folder)
        try:
            found.start()
            yield found
        finally:
            found.stop()


@pytest.fixture(scope="session")
def pool(host: HypervisorHost) -> str:
    """A storage pool of the host."""
    host.virsh("pool-define-as", "images", "dir", "--target", "/var/lib/libvirt/images")
    host.virsh("pool-build", "images")
    host.virsh("pool-start", "images")
    return "images"


@pytest.fixture(scope="session")
def drivers() -> DriverRegistry:
    """All drivers and, from the package of the plug-in's tests, that of libvirt's test driver."""
    sys.path.insert(0, str(PLUGIN))
    try:
        from polyvisor_driver_test import LibvirtTestDriver
    finally:
        sys.path.remove(str(PLUGIN))
    return DriverRegistry([*registry(), LibvirtTestDriver()])


def endpoint(uri: str, name: str = "rack4", *, secret: bool = False, **spec: Any) -> Obj:
    spec = {"uri": uri, **({"credentials": {"secretRef": {"name": "s"}}} if secret else {}), **spec}
    return {
        "apiVersion": "hypervisor.kubevirt.io/v1alpha1",
        "kind": "HypervisorEndpoint",
        "metadata": {"name": name, "uid": f"uid-{name}", "generation": 1},
        "spec": spec,
    }


def secret(version: int = 1, name: str = "rack4", **values: str) -> Obj:
    data = {key.replace("__", "."): base64.b64encode(text.encode()).decode() for key, text in values.items()}
    labels = {"hypervisor.kubevirt.io/endpoint": name}
    return {"metadata": {"name": "s", "labels": labels, "resourceVersion": str(version)}, "data": data}


class Watched:
    """A keeper whose observations can be awaited."""

    def __init__(self, folder: Path, drivers: DriverRegistry) -> None:
        self.saved: list[Observed] = []
        self._changed = asyncio.Condition()
        self.may_write = True
        self.keeper = Keeper(folder, drivers, self._save, "ours", SOON, lambda: self.may_write)

    async def _save(self, seen: Observed) -> None:
        async with self._changed:
            self.saved.append(seen)
            self._changed.notify_all()

    def start(self, obj: Obj, secret: Obj | None = None) -> None:
        self.keeper.update(obj, secret)
        self.keeper.start()

    async def until(self, holds: Callable[[Observed], bool], seconds: float = 120.0) -> Observed:
        try:
            async with asyncio.timeout(seconds), self._changed:
                while not (self.saved and holds(self.saved[-1])):
                    await self._changed.wait()
        except TimeoutError:
            pytest.fail(f"not observed within {seconds:.0f} s; last: {self.saved[-1:]}")
        return self.saved[-1]

    async def connected(self) -> Observed:
        return await self.until(lambda seen: seen.failure is None and seen.domains is not None)

    async def failed(self, reason: str) -> Observed:
        return await self.until(lambda seen: seen.failure is not None and seen.failure.reason == reason)


@pytest.fixture
async def watched(tmp_path: Path, drivers: DriverRegistry) -> AsyncIterator[Watched]:
    with short_folder() as folder:
        found = Watched(folder / "e", drivers)
        yield found
        await found.keeper.stop()
