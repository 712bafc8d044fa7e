"""The domain's name, uuid and XML for one machine: where the agent hands over to :mod:`polyvisor.domain`."""

from __future__ import annotations

import uuid

from pathlib import Path

from polyvisor.agent.storage import Prepared
from polyvisor.api import Obj
from polyvisor.drivers.base import Driver

_SPACE = uuid.UUID("6a1a24a1-4061-4607-8bf4-a3963d0c5895")


def domain_name(vmi: Obj) -> str:
    """Return the name under which libvirt knows a machine."""
    return f"{vmi['metadata']['namespace']}_{vmi['metadata']['name']}"


def domain_uuid(vmi: Obj) -> str:
    """Return the machine's firmware uuid, or one that follows from its uid."""
    firmware = (vmi["spec"].get("domain") or {}).get("firmware") or {}
    return str(uuid.UUID(firmware["uuid"]) if firmware.get("uuid") else uuid.uuid5(_SPACE, vmi["metadata"]["uid"]))


def domain_xml(vmi: Obj, driver: Driver, prepared: Prepared, folder: Path) -> str:
    """Render the domain."""
    raise NotImplementedError
