"""Where the agent hands over to :mod:`polyvisor.domain`: a plain object and what was prepared for it, typed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from polyvisor import domain
from polyvisor.agent.errors import AgentError
from polyvisor.agent.storage import Prepared
from polyvisor.api import Obj, VirtualMachineInstance
from polyvisor.domain import CardSource, DiskSource, DomainContext
from polyvisor.drivers.base import Driver, Verdict

SCREEN = "vnc.sock"
AGENT = "agent.sock"


def domain_name(vmi: Obj) -> str:
    """Return the name under which libvirt knows a machine."""
    return domain.domain_name(VirtualMachineInstance.model_validate(vmi))


def domain_uuid(vmi: Obj) -> str:
    """Return the machine's uuid in libvirt."""
    return domain.domain_uuid(VirtualMachineInstance.model_validate(vmi))


def domain_xml(
    vmi: Obj, driver: Driver, prepared: Prepared, folder: Path, cards: Mapping[str, CardSource] | None = None
) -> str:
    """Render the domain XML of a machine, with the virt type that placement chose and sockets in its ``folder``."""
    chosen = ((vmi.get("status") or {}).get("hypervisor") or {}).get("virtType")
    if chosen not in driver.virt_types:
        raise AgentError(f"the status names no virt type of {driver.title}, but {chosen!r}", retry=False)
    context = DomainContext(
        virt_type=chosen,
        disks={name: DiskSource(file.path, file.format, file.block) for name, file in prepared.files.items()},
        folders=prepared.folders,
        root=prepared.root,
        root_volume=prepared.root_volume,
        kernel=prepared.kernel,
        initrd=prepared.initrd,
        graphics_socket=folder / SCREEN if _has(driver, "lifecycle.vnc") else None,
        agent_socket=folder / AGENT if _has(driver, "lifecycle.guest-agent") else None,
        cards=cards or {},
    )
    return domain.render(VirtualMachineInstance.model_validate(vmi), driver, context)


def _has(driver: Driver, feature: str) -> bool:
    support = driver.features.get(feature)
    return support is not None and support.verdict in (Verdict.SUPPORTED, Verdict.CONDITIONAL)
