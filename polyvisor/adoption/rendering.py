"""The domain that a converted machine would be started as, with the host's own disks and sockets in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lxml import etree
from pydantic import ValidationError

from polyvisor.admission import AdmissionContext, admit
from polyvisor.adoption.board import channel_of
from polyvisor.adoption.draft import Draft, number
from polyvisor.api import VirtualMachineInstance
from polyvisor.api.names import API_VERSION
from polyvisor.api.reading import nested
from polyvisor.api.resources import VMIS
from polyvisor.domain import CardSource, DomainContext, render
from polyvisor.domain.devices import AGENT_CHANNEL, METRICS_CHANNEL
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.base import CardKind

if TYPE_CHECKING:
    from lxml.etree import _Element

SOCKET = Path("/nowhere/socket")
UID = "00000000-0000-4000-8000-000000000000"
MTU = 1500


def rendering(draft: Draft) -> _Element | None:
    """Return the domain; None for a machine that cannot be rendered, which admission refuses."""
    metadata = {"name": draft.name, "namespace": draft.mapping.namespace, "uid": UID}
    obj = {"apiVersion": API_VERSION, "kind": VMIS.kind, "metadata": metadata, "spec": draft.spec}
    obj = admit("CREATE", VMIS, obj, None, AdmissionContext({}, DriverRegistry([draft.driver]))).obj
    cid = draft.domain.find("devices/vsock/cid")
    obj["status"] = {"VSOCKCID": number(cid.get("address")) if cid is not None else None}
    try:
        return etree.fromstring(render(VirtualMachineInstance.model_validate(obj), draft.driver, _context(draft)))
    except (ValidationError, ValueError):
        return None


def _context(draft: Draft) -> DomainContext:
    domain = draft.domain
    kind, kernel, initrd = domain.find("os/type"), domain.findtext("os/kernel"), domain.findtext("os/initrd")
    boots = bool(nested(draft.board, "firmware").get("kernelBoot"))
    return DomainContext(
        draft.virt_type,
        architecture=kind.get("arch", "x86_64") if kind is not None else "x86_64",
        disks=draft.disks,
        folders=draft.folders,
        shares=draft.shares,
        root=draft.root_path,
        root_volume=draft.root,
        kernel=Path(kernel.strip()) if kernel and boots else None,
        initrd=Path(initrd.strip()) if initrd and boots else None,
        graphics_socket=_socket(domain, "devices/graphics/listen", "socket"),
        agent_socket=_channel(domain, AGENT_CHANNEL),
        metrics_socket=_channel(domain, METRICS_CHANNEL),
        usb_sockets=tuple(Path(one.get("path", SOCKET)) for one in domain.iterfind("devices/redirdev/source")),
        cards=_cards(draft),
    )


def _channel(domain: _Element, name: str) -> Path | None:
    """Return the host's end of the channel that has a name in the guest, if there is one."""
    board = domain.find("devices")
    channel = channel_of(board, name) if board is not None else None
    return _socket(channel, "source", "path") if channel is not None else None


def _socket(domain: _Element, path: str, attribute: str) -> Path:
    found = domain.find(path)
    return Path((found.get(attribute) if found is not None else None) or SOCKET)


def _cards(draft: Draft) -> dict[str, CardSource]:
    """Return what interfaces are joined to, for a driver that leaves that to the node."""
    if draft.driver.cards is CardKind.NONE:
        return {}
    found = {}
    for name, element in draft.cards.items():
        if element.get("type") == "user":
            continue
        source, target, mac = (element.find(tag) for tag in ("source", "target", "mac"))
        bridge = source.get("bridge", "") if source is not None else ""
        tap = target.get("dev", "") if target is not None else ""
        found[name] = CardSource(tap, bridge, mac.get("address", "") if mac is not None else "", MTU)
    return found
