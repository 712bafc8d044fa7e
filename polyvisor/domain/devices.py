"""Everything on the machine's board but disks: network cards, console, random numbers, watchdog, inputs, graphics.

A graphics card is attached only where the spec asks for it (``autoattachGraphicsDevice: true``): it costs some 20 MiB a
machine and no client shows it yet. With it comes VNC on a unix socket in the launcher's folder, never on a port.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvisor.domain.context import HostNetwork
from polyvisor.domain.dialect import CardKind
from polyvisor.domain.xml import add, add_pci_address
from polyvisor.machine import Interface, Memory, Vcpus

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.api import DomainSpec
    from polyvisor.domain.context import CardSource, DomainContext

SOURCES = {CardKind.TAP: "ethernet", CardKind.BRIDGE: "bridge"}
AGENT_CHANNEL = "org.qemu.guest_agent.0"
METRICS_CHANNEL = "org.github.vhostmd.1"
CARD_ALIAS = "ua-nic_"
"""Before the name of a network card in its alias, by which it is found in a domain that runs."""


def add_interfaces(devices: _Element, spec: DomainSpec, context: DomainContext, kind: CardKind) -> None:
    """Write the network cards: joined to what the node made for them, else a user-mode network of the hypervisor's."""
    for number, interface in enumerate(spec.devices.interfaces or []):
        read = Interface.of(interface, number)
        if not read.present:
            continue
        source = context.cards.get(interface.name)
        element = add(devices, "interface", type=_joined_by(source, kind))
        mac = source.mac if source is not None else read.mac
        if mac:
            add(element, "mac", address=mac.replace("-", ":").lower())
        if source is not None:
            _join(element, source, kind)
        if interface.model:
            add(element, "model", type=interface.model)
        if interface.state == "down":
            add(element, "link", state="down")
        if interface.boot_order is not None:
            add(element, "boot", order=interface.boot_order)
        if interface.acpi_index is not None:
            add(element, "acpi", index=interface.acpi_index)
        add_pci_address(element, interface.pci_address)
        add(element, "alias", name=f"{CARD_ALIAS}{interface.name}")


def _joined_by(source: CardSource | HostNetwork | None, kind: CardKind) -> str:
    if source is None:
        return "user"
    if isinstance(source, HostNetwork):
        return "bridge" if source.bridge else "network"
    return SOURCES[kind]


def _join(element: _Element, source: CardSource | HostNetwork, kind: CardKind) -> None:
    if isinstance(source, HostNetwork):
        add(element, "source", **{"bridge" if source.bridge else "network": source.name})
        return
    if kind is CardKind.TAP:
        add(element, "target", dev=source.tap, managed="no")
        if source.queues > 1:
            add(element, "driver", queues=source.queues)
    else:
        add(element, "source", bridge=source.bridge)
        for family, address in (("ipv4", source.address), ("ipv6", source.address6)):
            if address is not None:
                add(element, "ip", address=str(address.ip), family=family, prefix=address.network.prefixlen)
        for family, everywhere, gateway in (("ipv4", "0.0.0.0", source.gateway), ("ipv6", "::", source.gateway6)):
            if gateway is not None:
                add(element, "route", family=family, address=everywhere, prefix=0, gateway=str(gateway))
    add(element, "mtu", size=source.mtu)


def add_console(devices: _Element, spec: DomainSpec) -> None:
    """Write the serial console, which the launcher reads and logs."""
    if spec.devices.autoattach_serial_console is not False:
        add(devices, "console", type="pty")


def add_random(devices: _Element, spec: DomainSpec) -> None:
    """Write the random number generator."""
    if spec.devices.rng is not None:
        add(add(devices, "rng", model="virtio"), "backend", "/dev/urandom", model="random")


def add_watchdog(devices: _Element, spec: DomainSpec) -> None:
    """Write the watchdog; without an action it resets the machine."""
    watchdog = spec.devices.watchdog
    if watchdog is None:
        return
    model = "diag288" if watchdog.diag288 is not None else "i6300esb"
    chosen = watchdog.diag288 or watchdog.i6300esb
    element = add(devices, "watchdog", model=model, action=(chosen.action if chosen else None) or "reset")
    add(element, "alias", name=f"ua-watchdog_{watchdog.name}")


def add_inputs(devices: _Element, spec: DomainSpec) -> None:
    """Write the pointer devices."""
    for device in spec.devices.inputs or []:
        element = add(devices, "input", type=device.type, bus=device.bus or "usb")
        add(element, "alias", name=f"ua-input_{device.name}")


def add_sound(devices: _Element, spec: DomainSpec) -> None:
    """Write the sound card; nothing listens to it on the host."""
    if spec.devices.sound is not None:
        card = add(devices, "sound", model=spec.devices.sound.model or "ich9")
        add(card, "alias", name=f"ua-sound_{spec.devices.sound.name}")


def add_panic(devices: _Element, spec: DomainSpec) -> None:
    """Write the devices by which a guest says that it has panicked."""
    for device in spec.devices.panic_devices or []:
        add(devices, "panic", model=device.model or None)


def add_tpm(devices: _Element, spec: DomainSpec) -> None:
    """Write the TPM, which a program beside the hypervisor emulates; kept state has the newer interface."""
    tpm = spec.devices.tpm
    if tpm is None or tpm.enabled is False:
        return
    element = add(devices, "tpm", model="tpm-crb" if tpm.persistent else "tpm-tis")
    add(element, "backend", type="emulator", version="2.0", persistent_state="yes" if tpm.persistent else None)


def add_graphics(devices: _Element, spec: DomainSpec, context: DomainContext) -> None:
    """Write a screen and where it can be seen, if the spec asks for one."""
    chosen = spec.devices.video.type if spec.devices.video else None
    asked = spec.devices.autoattach_graphics_device is True or chosen
    place = context.graphics_socket
    if not asked or (place is None and not context.screen_at_host):
        return
    add(add(devices, "graphics", type="vnc"), "listen", type="socket", socket=str(place) if place else None)
    vga, heads = chosen in (None, "vga"), None if chosen == "none" else 1
    add(add(devices, "video"), "model", type=chosen or "vga", vram=16384 if vga else None, heads=heads)


def add_agent_channel(devices: _Element, context: DomainContext) -> None:
    """Write the channel to an agent inside the guest."""
    place = context.agent_socket
    if place is not None or context.agent_at_host:
        channel = add(devices, "channel", type="unix")
        add(channel, "source", mode="bind", path=str(place) if place else None)
        add(channel, "target", type="virtio", name=AGENT_CHANNEL)


def add_metrics_channel(devices: _Element, spec: DomainSpec, context: DomainContext) -> None:
    """Write the channel on which a guest asks for metrics of its host, by vhostmd's name."""
    if spec.devices.downward_metrics is not None and context.metrics_socket is not None:
        channel = add(devices, "channel", type="unix")
        add(channel, "source", mode="bind", path=str(context.metrics_socket))
        add(channel, "target", type="virtio", name=METRICS_CHANNEL)


def add_usb_slots(devices: _Element, spec: DomainSpec, context: DomainContext) -> None:
    """Write the slots in which clients may put their USB devices."""
    if spec.devices.client_passthrough is None or not context.usb_sockets:
        return
    for number, path in enumerate(context.usb_sockets):
        slot = add(devices, "redirdev", bus="usb", type="unix")
        add(slot, "source", mode="bind", path=str(path))
        add(slot, "alias", name=f"ua-usb{number}")


def add_vsock(devices: _Element, spec: DomainSpec, number: int | None) -> None:
    """Write the socket between host and guest, by the number that the cluster gave the machine."""
    if spec.devices.autoattach_vsock is True and number is not None:
        add(add(devices, "vsock", model="virtio"), "cid", auto="no", address=number)


def add_balloon(devices: _Element, spec: DomainSpec) -> None:
    """Write the memory balloon; on unless switched off, as KubeVirt has it."""
    if spec.devices.autoattach_mem_balloon is not False:
        # a guest tells of free pages of its own size, which is no part of a huge page that could be given back
        # and one with CPUs of its own is not to be disturbed by it
        reporting = "off" if Memory.of(spec).page or Vcpus.of(spec).dedicated else "on"
        element = add(devices, "memballoon", model="virtio", freePageReporting=reporting)
        add(element, "stats", period=10)
