"""A machine's name and uuid in libvirt, from its object alone, so that every part that looks finds the same domain."""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polyvisor.api import VirtualMachineInstance

SPACE = uuid.UUID("6a1a24a1-4061-4607-8bf4-a3963d0c5895")

MAX_DOMAIN_NAME = 200


def domain_name(vmi: VirtualMachineInstance) -> str:
    """Return the domain's name; neither part may hold an underscore, so it is unique.

    libvirt makes names of files from it, so what is too long for one is cut and told apart by a digest.
    """
    assert vmi.metadata is not None
    name = f"{vmi.metadata.namespace}_{vmi.metadata.name}"
    if len(name) <= MAX_DOMAIN_NAME:
        return name
    return f"{name[: MAX_DOMAIN_NAME - 11].rstrip('.-')}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def domain_uuid(vmi: VirtualMachineInstance) -> str:
    """Return the firmware's uuid, or one that follows from the object's uid."""
    assert vmi.metadata is not None
    firmware = vmi.spec.domain.firmware
    if firmware and firmware.uuid:
        return str(uuid.UUID(firmware.uuid))
    return str(uuid.uuid5(SPACE, vmi.metadata.uid or ""))
