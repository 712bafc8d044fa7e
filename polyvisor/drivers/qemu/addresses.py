"""Where each device of a QEMU machine sits: written out, so that libvirt has nothing left to choose.

What libvirt makes up is not always what a guest finds: from the eighth SCSI disk on it adds controllers that few guests
have a driver for. And what follows from the order of all devices changes with each of them. Here a disk's place follows
from its position among the spec's disks of its bus, whether it is there already or comes while the machine runs. So a
disk that came to a running machine is at the same place after a restart.

With PCI Express (q35) each device has a root port of its own, and some ports are free; what is no PCI Express device is
on the root bus itself, or behind bridges where there is more of it. Other boards have one bus of 31 slots, and bridges
to more where it is full.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from polyvisor.domain.xml import add
from polyvisor.drivers.qemu.transitional import is_transitional, make_transitional
from polyvisor.drivers.rules import is_q35
from polyvisor.machine import Disk

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.api import VirtualMachineInstanceSpec

FREE_PLACES = 4
"""Places on the PCI bus for virtio disks and interfaces that come later; SCSI disks need none."""
SATA_PORTS = 6
USB_PORTS = 15
FUNCTIONS = 8
"""Root ports that share a slot."""
EXPRESS_CARDS = ("virtio", "e1000e", "igb", None)
EXPRESS = ("filesystem", "memballoon", "rng", "vsock")
LEGACY_SOUND = 0x1B
"""Where q35 boards have their sound card."""
LAST_SLOT = 0x1E
ROOT_SLOTS = 6
"""Slots of the root bus, from its far end, for what is no PCI Express device; what is more goes behind a bridge."""
BRIDGE_SLOTS = 31
Place = tuple[int, int]
"""Bus and slot."""


def write_addresses(domain: _Element, devices: _Element, spec: VirtualMachineInstanceSpec) -> None:
    """Give every disk and controller its address, and every other PCI device, in place."""
    disks = _positions(devices, spec)
    _controllers(devices, disks)
    transitional = spec.domain.devices.use_virtio_transitional is True
    if transitional:
        make_transitional(devices)
    for bus, number, disk in disks:
        if disk is None or disk.find("address") is not None:
            continue
        if bus == "scsi":
            add(disk, "address", type="drive", controller=0, bus=0, target=0, unit=number)
        elif bus == "sata":
            unit = number % SATA_PORTS
            add(disk, "address", type="drive", controller=number // SATA_PORTS, bus=0, target=0, unit=unit)
    _usb(devices, disks)
    for number, channel in enumerate(devices.findall("channel"), 1):  # number 0 is for a console on virtio
        add(channel, "address", type="virtio-serial", controller=0, bus=0, port=number)
    kind = domain.find("os/type")
    machine = str(kind.get("machine")) if kind is not None else ""
    free = 0 if spec.domain.devices.disable_hotplug is True else FREE_PLACES
    if is_q35(machine):
        _Express(devices, disks, free, transitional).write()
    elif machine == "pc" or machine.startswith("pc-i440fx"):
        _Conventional(devices, disks, free, transitional).write()


Positions = list[tuple[str, int, "_Element | None"]]
"""Bus, position on it, and the disk if it is there."""


def _positions(devices: _Element, spec: VirtualMachineInstanceSpec) -> Positions:
    there = {str(alias.get("name")): disk for disk in devices.findall("disk") for alias in disk.findall("alias")}
    used: Counter[str] = Counter()
    found: Positions = []
    for disk in spec.domain.devices.disks or []:
        bus = Disk.of(disk).bus
        found.append((bus, used[bus], there.get(f"ua-{disk.name}")))
        used[bus] += 1
    return found


def _controllers(devices: _Element, disks: Positions) -> None:
    """Write the controllers that the devices need, as libvirt would add others."""
    if devices.find("channel") is not None:
        add(devices, "controller", type="virtio-serial", index=0, ports=31)
    last = max((number for bus, number, _ in disks if bus == "sata"), default=-1)
    for index in range(last // SATA_PORTS + 1):
        add(devices, "controller", type="sata", index=index)


def _usb(devices: _Element, disks: Positions) -> None:
    on = [disk for bus, _, disk in disks if bus == "usb" and disk is not None]
    on += [device for device in devices.findall("input") if device.get("bus") == "usb"]
    on += devices.findall("redirdev")
    for port, device in enumerate(on, 1):
        add(device, "address", type="usb", bus=0, port=port)


class _Board:
    """The places of a board: which are taken, and which device gets which."""

    def __init__(self, devices: _Element, disks: Positions, free: int, transitional: bool) -> None:
        self.devices = devices
        self.disks = disks
        self.free = free
        self.transitional = transitional
        given = devices.iterfind("*/address[@type='pci']")
        self.taken: set[Place] = {(int(str(a.get("bus")), 16), int(str(a.get("slot")), 16)) for a in given}

    def place(self, device: _Element, bus: int, slot: int, function: int = 0, shared: bool = False) -> None:
        """Write a device's place, unless the user gave one; ``shared``: further functions of the slot are in use."""
        if device.find("address[@type='pci']") is not None:
            return
        numbers = {"bus": f"0x{bus:02x}", "slot": f"0x{slot:02x}", "function": f"0x{function:x}"}
        many = "on" if shared else None
        add(device, "address", type="pci", domain="0x0000", multifunction=many, **numbers)
        self.taken.add((bus, slot))

    def screen(self, slot: int) -> None:
        """Put the graphics card where firmware looks for it."""
        for video in self.devices.findall("video"):
            model = video.find("model")
            if model is not None and model.get("type") not in ("none", "ramfb"):
                self.place(video, 0, slot)

    def cards(self) -> Iterator[_Element]:
        """Yield the interfaces that have no place yet."""
        yield from (card for card in self.devices.findall("interface") if card.find("address") is None)

    def others(self) -> Iterator[_Element]:
        """Yield what else needs a place and is a PCI Express device: controllers first."""
        for kind, model in (("scsi", "virtio-scsi"), ("usb", "qemu-xhci"), ("virtio-serial", None)):
            for controller in self.devices.findall(f"controller[@type='{kind}']"):
                if controller.get("model") == model or is_transitional(controller):
                    yield controller
        yield from self.devices.findall("input[@bus='virtio']")
        for device in self.devices:
            if device.tag == "filesystem":
                driver = device.find("driver")
                if driver is not None and driver.get("type") == "virtiofs":
                    yield device
            elif device.tag in EXPRESS and device.get("model") != "none":
                yield device

    def legacy(self) -> Iterator[_Element]:
        """Yield what is no PCI Express device, interfaces apart."""
        yield from self.devices.findall("sound")
        yield from self.devices.findall("watchdog[@model='i6300esb']")
        yield from self.devices.findall("panic[@model='pvpanic']")


class _Express(_Board):
    """A board with PCI Express."""

    def __init__(self, devices: _Element, disks: Positions, free: int, transitional: bool) -> None:
        super().__init__(devices, disks, free, transitional)
        self.bridges: dict[int, int] = {}
        """The buses behind bridges, with the root port that each bridge is at."""
        self.behind = 0
        """How many places behind bridges are taken."""

    def write(self) -> None:
        """Write all places, then the root ports that they need."""
        self.screen(1)
        for controller in self.devices.findall("controller[@type='sata']"):
            if controller.get("index") == "0":
                self.place(controller, 0, 0x1F, 2)
            else:
                self.place(controller, *self._plain())
        for device in self.legacy():
            sound = (0, LEGACY_SOUND)
            self.place(device, *(sound if device.get("model") == "ich9" and sound not in self.taken else self._plain()))
        for card in self.cards():
            model = card.find("model")
            if is_transitional(card):
                self.place(card, *self._bridged())
            elif (model.get("type") if model is not None else None) in EXPRESS_CARDS:
                self.place(card, self._port(), 0)
            else:
                self.place(card, *self._plain())
        for device in self.others():
            self.place(device, *(self._bridged() if is_transitional(device) else (self._port(), 0)))
        for bus, _, disk in self.disks:
            if bus == "virtio" and (disk is None or disk.find("address") is None):
                place = self._virtio()
                if disk is not None:
                    self.place(disk, *place)
        for _ in range(self.free):
            self._virtio()
        self._ports()

    def _virtio(self) -> Place:
        """Return a place for a virtio disk, which can be attached there while the machine runs."""
        return self._bridged() if self.transitional else (self._port(), 0)

    def _port(self) -> int:
        """Take the next root port. Raises ValueError if there is none left."""
        port = next((number for number in range(1, 256) if (number, 0) not in self.taken), None)
        if port is None:
            raise ValueError("there are more PCI devices than a machine has places for")
        self.taken.add((port, 0))
        return port

    def _plain(self) -> Place:
        """Return a place for what is no PCI Express device."""
        for slot in range(LAST_SLOT, LAST_SLOT - ROOT_SLOTS, -1):
            if (0, slot) not in self.taken:
                return 0, slot
        return self._bridged()

    def _bridged(self) -> Place:
        """Return the next place behind a bridge."""
        number, slot = divmod(self.behind, BRIDGE_SLOTS)
        if number == len(self.bridges):
            port = self._port()
            self.bridges[self._port()] = port
        self.behind += 1
        return list(self.bridges)[number], 1 + slot

    def _ports(self) -> None:
        """Write the root bus, the bridges, and all other buses up to the highest in use: root ports, eight to a slot.

        No number is left out, for libvirt adds a root port for each that is.
        """
        slots = iter([slot for slot in range(2, LAST_SLOT + 1) if (0, slot) not in self.taken])
        add(self.devices, "controller", type="pci", index=0, model="pcie-root")
        slot = ports = 0
        for number in range(1, max((bus for bus, _ in self.taken), default=0) + 1):
            if number in self.bridges:
                bridge = add(self.devices, "controller", type="pci", index=number, model="pcie-to-pci-bridge")
                self.place(bridge, self.bridges[number], 0)
                continue
            function = ports % FUNCTIONS
            if function == 0:
                slot = next(slots, 0)
                if not slot:
                    raise ValueError("there are more PCI devices than the root bus has places for")
            port = add(self.devices, "controller", type="pci", index=number, model="pcie-root-port")
            add(port, "target", chassis=number, port=f"0x{(slot << 3) + function:x}")
            self.place(port, 0, slot, function, shared=function == 0)
            ports += 1


class _Conventional(_Board):
    """A board with one PCI bus, and bridges to more where that is full."""

    def write(self) -> None:
        """Write all places, then the bridges that they need."""
        self.screen(2)
        wanted = [*self.cards(), *self.others(), *self.legacy(), *self.devices.findall("controller[@type='sata']")]
        virtio = [disk for bus, _, disk in self.disks if bus == "virtio"]
        disks = [disk for disk in virtio if disk is None or disk.find("address") is None]
        own = [slot for slot in range(3, BRIDGE_SLOTS + 1) if (0, slot) not in self.taken]
        count, bridges = len(wanted) + len(disks) + self.free, 0
        while count > len(own) - bridges + BRIDGE_SLOTS * bridges:
            bridges += 1
        places: list[Place] = [(0, slot) for slot in own[: len(own) - bridges]]
        places += [(bridge, slot) for bridge in range(1, bridges + 1) for slot in range(1, BRIDGE_SLOTS + 1)]
        for device, (bus, slot) in zip([*wanted, *disks], places, strict=False):
            if device is not None:
                self.place(device, bus, slot)
        add(self.devices, "controller", type="pci", index=0, model="pci-root")
        for number, slot in enumerate(own[len(own) - bridges :], 1):
            bridge = add(self.devices, "controller", type="pci", index=number, model="pci-bridge")
            add(bridge, "target", chassisNr=number)
            self.place(bridge, 0, slot)
