"""Where the agent hands over to :mod:`polyvisor.domain`: a plain object and what was prepared for it, typed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import count
from pathlib import Path
from typing import NamedTuple

from lxml import etree

from polyvisor import domain
from polyvisor.agent.errors import AgentError
from polyvisor.agent.live import described
from polyvisor.agent.storage.disks import DiskFile
from polyvisor.agent.storage.prepared import Prepared
from polyvisor.api import Obj, VirtualMachineInstance
from polyvisor.api.host_metrics import metrics_disks
from polyvisor.api.reading import chosen_hypervisor
from polyvisor.domain import CardSource, DiskSource, DomainContext
from polyvisor.domain.disks import letters
from polyvisor.domain.ids import TRIAL
from polyvisor.drivers.base import Driver
from polyvisor.drivers.verdict import may_support
from polyvisor.launcher import metrics

SCREEN = "vnc.sock"
AGENT = "agent.sock"
USB_SLOTS = 4
"""As many as KubeVirt has."""


def domain_xml(
    vmi: Obj,
    driver: Driver,
    prepared: Prepared,
    folder: Path,
    cards: Mapping[str, CardSource] | None = None,
    cpus: tuple[int, ...] = (),
) -> str:
    """Render the domain XML of a machine, with the virt type that placement chose and sockets in its ``folder``."""
    chosen = chosen_hypervisor(vmi).get("virtType")
    if chosen not in driver.virt_types:
        raise AgentError(f"the status names no virt type of {driver.title}, but {chosen!r}", retry=False)
    if vmi["spec"]["domain"]["devices"].get("autoattachVSOCK") and not vmi["status"].get("VSOCKCID"):
        raise AgentError("status.VSOCKCID: the machine has no vsock number yet; virt-controller gives one")
    context = DomainContext(
        virt_type=chosen,
        disks=_disks(vmi, prepared, folder),
        folders=prepared.folders,
        shares=prepared.shares,
        root=prepared.root,
        root_volume=prepared.root_volume,
        kernel=prepared.kernel,
        initrd=prepared.initrd,
        graphics_socket=folder / SCREEN if may_support(driver, "lifecycle.vnc") else None,
        agent_socket=folder / AGENT if may_support(driver, "lifecycle.guest-agent") else None,
        metrics_socket=folder / metrics.CHANNEL,
        usb_sockets=tuple(folder / f"usb{number}.sock" for number in range(USB_SLOTS)),
        cards=cards or {},
        cpus=cpus,
        first_id=prepared.first_id or TRIAL,
        shifted=prepared.shifted,
        hidden=tuple(path for path in driver.hides if Path(path).exists()),
    )
    return domain.render(VirtualMachineInstance.model_validate(vmi), driver, context)


def _disks(vmi: Obj, prepared: Prepared, folder: Path) -> dict[str, DiskSource]:
    told = {name: DiskSource(folder / metrics.DISK, "raw", readonly=True) for name in metrics_disks(vmi["spec"])}
    return told | {name: DiskSource(**vars(file)) for name, file in prepared.files.items()}


class Plugged(NamedTuple):
    """A disk for a running machine: as libvirt wants it, its name, and its unit on the SCSI controller, if any."""

    xml: str
    target: str
    unit: int | None


def disk_xml(
    vmi: Obj,
    driver: Driver,
    name: str,
    file: DiskFile,
    taken: Collection[str],
    folder: Path,
    units: Collection[int] = (),
) -> Plugged:
    """Render the disk of one volume for a machine that runs; its name is none of ``taken``, its unit none of ``units``.

    Its unit is the one that it has after a restart, unless a disk that came before and went has moved the others.
    """
    spec = vmi["spec"]
    devices = {**spec["domain"]["devices"], "interfaces": []}
    plain = {**vmi, "spec": {**spec, "networks": [], "domain": {**spec["domain"], "devices": devices}}}
    whole = etree.fromstring(domain_xml(plain, driver, Prepared(files={name: file}), folder))
    aliases = {disk: disk.find("alias") for disk in whole.iterfind("devices/disk")}
    disk = next((d for d, alias in aliases.items() if alias is not None and alias.get("name") == f"ua-{name}"), None)
    target = disk.find("target") if disk is not None else None
    if disk is None or target is None:
        raise AgentError(f"volume {name} has no disk in spec.domain.devices.disks", retry=False)
    prefix = str(target.get("dev"))[:2]
    free = next(name for number in count() if (name := f"{prefix}{letters(number)}") not in taken)
    target.set("dev", free)
    if (how := disk.find("driver")) is not None:
        how.attrib.pop("iothread", "")  # the threads are those that the domain began with
    for boot in disk.findall("boot"):
        disk.remove(boot)
    given = next((d.get("disk") or {} for d in devices.get("disks") or [] if d["name"] == name), {})
    if not given.get("pciAddress"):
        _leave_open(disk)
    unit = None
    if (address := disk.find("address[@type='drive']")) is not None:
        wanted = int(address.get("unit") or 0)
        unit = wanted if wanted not in units else next(number for number in count() if number not in units)
        address.set("unit", str(unit))
    return Plugged(etree.tostring(disk, encoding="unicode"), free, unit)


def _leave_open(device: etree._Element) -> None:
    """Let libvirt find a free place on the PCI bus, which has changed since the machine was started."""
    for address in device.findall("address[@type='pci']"):
        device.remove(address)


def card_xml(vmi: Obj, driver: Driver, name: str, sources: Mapping[str, CardSource], folder: Path) -> str:
    """Render one network card for a machine that runs."""
    macs = {source.mac: card for card, source in sources.items()}
    card = described.cards(domain_xml(vmi, driver, Prepared(), folder, sources), macs).get(name)
    if card is None:
        raise AgentError(f"there is no interface {name} in spec.domain.devices.interfaces", retry=False)
    for boot in card.findall("boot"):
        card.remove(boot)
    if not any(c.get("pciAddress") for c in vmi["spec"]["domain"]["devices"]["interfaces"] if c["name"] == name):
        _leave_open(card)
    return etree.tostring(card, encoding="unicode")
