from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyvisor.agent.images.store import ImageStore
from polyvisor.domain import DomainContext
from polyvisor.drivers import registry
from polyvisor.drivers.base import Driver, ProbeResult, RootKind
from polyvisor.prerequisites import advised
from tests.folders import short_folder
from tests.kept import guest_images, keep_probes, recall_probes
from tests.needs import unmet


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    """The demo's guest images, made once."""
    return ImageStore(guest_images(), tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


DRIVERS = ("qemu", "lxc")
"""Those that run guests on any Linux machine."""


@pytest.fixture(scope="session", params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> Driver:
    found = registry().get(request.param)
    assert found
    return found


@pytest.fixture(scope="session")
def probed(driver: Driver, store: ImageStore, scratch: Path) -> ProbeResult:
    recall_probes(scratch)
    own = scratch / driver.name
    own.mkdir(exist_ok=True)
    shutil.copy(store.file("localhost/polyvisor/demo-kernel:1", "/boot/vmlinuz"), own / "vmlinuz")
    result = driver.probe(own)
    keep_probes(scratch)
    if not result.available:
        unmet(f"{driver.title} does not work here: {advised(driver.name, result.reason)}")
    return result


@pytest.fixture
def bootable(driver: Driver, probed: ProbeResult, store: ImageStore, tmp_path: Path) -> DomainContext:
    """Something to boot for real."""
    return boot_of(driver, probed, store, tmp_path)


def boot_of(driver: Driver, probed: ProbeResult, store: ImageStore, folder: Path) -> DomainContext:
    """Return what a guest of the demo's images boots from; a container has a copy of its root in ``folder``."""
    virt_type = probed.virt_types[0]
    if driver.root == RootKind.FILESYSTEM:
        root = folder / "root"
        subprocess.run(["cp", "-a", "-T", store.tree("localhost/polyvisor/demo-rootfs:1"), root], check=True)
        return DomainContext(virt_type, root=root)
    kernel = "localhost/polyvisor/demo-kernel:1"
    return DomainContext(
        virt_type, kernel=store.file(kernel, "/boot/vmlinuz"), initrd=store.file(kernel, "/boot/initrd.img")
    )
