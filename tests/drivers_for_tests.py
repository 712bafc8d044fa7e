"""Drivers that exist only in tests, so that placement and controllers are tested without any real one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyvisor.drivers.base import DRIVER_API, MIB, Driver, Endpoint, LauncherPlan, ProbeResult, Support, Verdict
from polyvisor.drivers.features import FEATURES

YES = Support(Verdict.SUPPORTED, source="test")


def no(reason: str) -> Support:
    return Support(Verdict.UNSUPPORTED, source="test", reason=reason)


class FakeDriver(Driver):
    api = DRIVER_API

    def __init__(
        self,
        name: str,
        virt_types: tuple[str, ...] = ("fast", "soft"),
        emulated: frozenset[str] = frozenset({"soft"}),
        table: Mapping[str, Support] | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.title = name.title()
        self.virt_types = virt_types
        self.emulated_virt_types = emulated
        self.aliases = aliases or {}
        self._table = {feature.id: YES for feature in FEATURES} | dict(table or {})

    @property
    def features(self) -> Mapping[str, Support]:
        return self._table

    def probe(self, scratch: Path) -> ProbeResult:
        return ProbeResult(False)

    def launcher(self, folder: Path, scratch: Path | None = None, endpoint: Endpoint | None = None) -> LauncherPlan:
        return LauncherPlan(uri="test:///default")

    def defaults(self, spec: Any) -> None:
        return None

    def adapt(self, domain: Any, spec: Any) -> None:
        return None

    def overhead_bytes(self, spec: Any) -> int:
        return 40 * MIB


def node(name: str, *labels: str, unschedulable: bool = False, **values: str) -> dict[str, Any]:
    """A Node; a label without a slash stands below hypervisor.kubevirt.io/."""
    full = {label if "/" in label else f"hypervisor.kubevirt.io/{label}": "true" for label in labels}
    full |= {"kubevirt.io/schedulable": "true", "kubernetes.io/arch": "amd64"} | values
    spec = {"unschedulable": True} if unschedulable else {}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": full}, "spec": spec}
