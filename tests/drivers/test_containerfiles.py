"""Each driver's launcher image: there is one or a reason, and no more privilege than the driver declares."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyvisor import drivers
from polyvisor.api.names import LAUNCHER_USER
from polyvisor.drivers import registry
from polyvisor.drivers.base import CardKind, Driver, Place

DRIVERS = list(registry())
TOP = Path(drivers.__file__).parents[2]


def containerfile(driver: Driver) -> Path:
    return Path(drivers.__file__).parent / driver.name / "Containerfile"


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.name)
def test_there_is_an_image_or_a_reason(driver: Driver) -> None:
    assert containerfile(driver).exists() != bool(driver.no_image)


@pytest.mark.parametrize("driver", [d for d in DRIVERS if not d.no_image], ids=lambda driver: driver.name)
def test_an_image_holds_the_launcher_and_runs_as_root_only_where_it_must(driver: Driver, tmp_path: Path) -> None:
    lines = containerfile(driver).read_text().splitlines()
    words = [line.split() for line in lines if line and not line.startswith("#")]
    assert words[0][0] == "ARG"
    assert words[0][1].startswith("BASE=")
    copied = [word[1] for word in words if word[0] == "COPY"]
    assert "polyvisor/launcher" in copied
    assert all((TOP / path).exists() or path == "vmlinuz" for path in copied), "a kernel comes from Debian's package"
    assert words[-1] == ["ENTRYPOINT", '["/usr/bin/python3",', '"-m",', '"polyvisor.launcher"]']
    users = [word[1] for word in words if word[0] == "USER"]
    assert bool(users) != driver.launcher(tmp_path).privileged
    assert "root" not in users
    packages = {word for line in words for word in line}
    assert driver.place != Place.LAUNCHER or "busybox-static" in packages
    assert driver.cards != CardKind.BRIDGE or "iproute2" in packages, "libvirt moves a container's card by `ip`"
    assert all(user == f"{LAUNCHER_USER}:{LAUNCHER_USER}" for user in users)
