"""Machines for tests of single drivers; what is asked of every driver is in :mod:`polyvisor.testing`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polyvisor.api import VirtualMachineInstance
from polyvisor.domain import DiskSource, DomainContext
from polyvisor.drivers.base import Driver, RootKind
from polyvisor.testing import EVIL, Bench, Client, bench
from polyvisor.testing.examples import SOURCES, backing

__all__ = ["EVIL", "Bench", "Client", "bench", "context", "machine"]

UID = "0f0e0d0c-0000-4000-8000-00000000000%d"


def machine(driver: Driver, domain: dict[str, Any] | None = None, **spec: Any) -> VirtualMachineInstance:
    """A machine that the driver can run, with more in its domain where a test asks for it; its drives hold discs."""
    whole = {"memory": {"guest": "96Mi"}, "devices": {}, **(domain or {})}
    drives = [disk["name"] for disk in whole["devices"].get("disks") or [] if "cdrom" in disk]
    if drives and "volumes" not in spec:
        spec["volumes"] = [{"name": name, **SOURCES[backing(driver)]} for name in drives]
    return VirtualMachineInstance.model_validate(
        {"metadata": {"name": "kit", "namespace": driver.name, "uid": UID % 1}, "spec": {"domain": whole, **spec}}
    )


def context(driver: Driver, virt_type: str, folder: Path | None = None) -> DomainContext:
    """What an agent would have made ready; nothing of it exists unless the test makes it."""
    base = folder or Path(f"/nowhere/{EVIL}")
    if driver.root == RootKind.FILESYSTEM:
        return DomainContext(virt_type, root=base / "root", root_volume="root")
    return DomainContext(
        virt_type,
        disks={"one": DiskSource(base / "one.img", "raw"), "two": DiskSource(base / "two.img", "qcow2")},
        kernel=base / "vmlinuz",
        initrd=base / "initrd.img",
    )
