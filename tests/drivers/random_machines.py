"""Machines of many devices at once, drawn by a seed: what the families of one device cannot show, such as places.

Each draw takes some sections of a machine and, in each, values that users write: several disks on all buses, pointer
devices, interfaces, a platform. Most are ordinary, some are at the edge of what is accepted. What admission finds wrong
is left out, field by field, as its messages say, until it is content: so nearly every draw is judged.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api import Obj, Problem
from polyvisor.api.resources import VMIS
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.base import Driver
from polyvisor.testing.machines import bootable, instance
from polyvisor.testing.merging import at, merged

ROUNDS = 14
"""How often what is wrong is left out before a machine is given up."""
BUSES = ("", "virtio", "sata", "scsi", "usb")
MODELS = ("", "virtio", "e1000", "e1000e", "ne2k_pci", "pcnet", "rtl8139")
MACHINES = ("q35", "q35", "q35", "pc", "pc-q35-7.2", "pc-i440fx-7.2", "pc-q35-6.0", "isapc", "microvm")
SIZES = ("64Mi", "1Gi", "1500M", "2.1Gi", "5G", "100500Ki", "33554433", "1e9", "0.5Gi")
ADDRESSES = (
    *(f"0000:00:{slot:02x}.0" for slot in range(0x20)),
    *(f"0000:{bus:02x}:00.0" for bus in range(1, 0x48, 3)),
    "0000:01:01.0",
    "0000:00:1f.2",
    "0001:00:05.0",
    "0000:ff:1f.7",
)


def machines(seed: str, count: int) -> Iterator[tuple[str, Obj]]:
    """Yield (name, spec) of ``count`` machines."""
    for number in range(count):
        yield f"{seed}-{number}", machine(Random(f"{seed} {number}"))


def machine(draw: Random) -> Obj:
    """Return one machine's spec."""
    parts: list[Obj] = [at("domain.memory.guest", draw.choice(SIZES)), _disks(draw), _interfaces(draw)]
    for section in (_cpu, _platform, _firmware, _clock, _devices, _inputs):
        if draw.random() < 0.6:
            parts.append(section(draw))
    return merged(*parts)


def admitted(driver: Driver, seed: str, count: int, virt_type: str = "") -> Iterator[tuple[str, Obj]]:
    """Yield (name, instance) of those of ``count`` draws of which admission leaves something for a driver."""
    context = AdmissionContext({}, DriverRegistry([driver]))
    for name, spec in machines(seed, count):
        obj = instance(driver, bootable(driver, spec))
        if virt_type:
            obj["spec"]["hypervisor"]["virtType"] = virt_type
        for _ in range(ROUNDS):
            outcome = admit("CREATE", VMIS, obj, None, context)
            if not outcome.problems:
                yield name, outcome.obj
                break
            obj = mended(obj, outcome.problems)


def mended(obj: Obj, problems: Sequence[Problem]) -> Obj:
    """Return the object without the fields that have problems; a device of a list goes whole if it lacks something."""
    whole = copy.deepcopy(obj)
    for keys in sorted({_keys(problem.field) for problem in problems}, key=str, reverse=True):
        _left_out(whole, keys)
    return whole


def _keys(path: str) -> tuple[str | int, ...]:
    return tuple(int(key) if key.isdigit() else key for key in re.split(r"[.\[\]]+", path.strip("]")))


def _left_out(whole: Any, keys: Sequence[str | int]) -> None:
    *way, last = keys
    value = whole
    try:
        for key in way:
            value = value[key]
        if last in value or isinstance(last, int):
            del value[last]
        elif keys[-2:-1] and isinstance(keys[-2], int):
            _left_out(whole, keys[:-1])  # what lacks a field goes
    except (KeyError, IndexError, TypeError):
        return  # it went with something else, or is a default


def _maybe(draw: Random, chance: float, **fields: Any) -> Obj:
    return {name: draw.choice(values) for name, values in fields.items() if draw.random() < chance}


def _disks(draw: Random) -> Obj:
    few = draw.random() < 0.7
    count = draw.randint(0, 4) if few else draw.randint(5, 40)
    one_bus = draw.choice((None, *BUSES))
    disks, volumes = [], []
    for number in range(count):
        name = f"d{number}"
        disks.append({"name": name, **_disk(draw, one_bus, 0.25 if few else 0.03)})
        volumes.append({"name": name, **_volume(draw, name)})
    return merged(at("domain.devices.disks", disks), {"volumes": volumes})


def _volume(draw: Random, name: str) -> Obj:
    claim = {"persistentVolumeClaim": {"claimName": name}}
    return draw.choice(
        (
            claim,
            claim,
            {"emptyDisk": {"capacity": draw.choice(SIZES)}},
            {"containerDisk": {"image": "localhost/polyvisor/demo:1"}},
            {"cloudInitNoCloud": {"userData": "#cloud-config\n"}},
            {"configMap": {"name": name}},
            {"dataVolume": {"name": name}},
        )
    )


def _disk(draw: Random, one_bus: str | None, chance: float) -> Obj:
    bus = draw.choice(BUSES) if one_bus is None else one_bus
    target: Obj = {"bus": bus} if bus else {}
    kind = draw.choice(("disk",) * 8 + ("cdrom", "lun"))
    if kind != "cdrom":
        target |= _maybe(draw, chance, readonly=(True, False))
    if kind == "disk":
        target |= _maybe(draw, chance / 2, pciAddress=ADDRESSES)
        target |= _maybe(draw, chance / 2, rotationRate=(1, 7200, 1000))
    block = draw.choice((512, 4096, 1024))
    return {
        kind: target,
        **_maybe(
            draw,
            chance,
            cache=("none", "writethrough", "writeback"),
            io=("native", "threads"),
            dedicatedIOThread=(True, False),
            serial=("S-1", "a" * 20, "a" * 21, "b" * 36, "with space", "with/slash", "Ünïcode", "dot.dash_-1"),
            shareable=(True,),
            errorPolicy=("stop", "ignore", "report", "enospace"),
            bootOrder=range(1, 9),
            blockSize=(
                {"custom": {"logical": 512, "physical": block}},
                {"custom": {"logical": block, "physical": block}},
                {"custom": {"logical": 512, "physical": 512, "discardGranularity": 4096}},
                {"matchVolume": {"enabled": True}},
            ),
        ),
    }


def _interfaces(draw: Random) -> Obj:
    count = draw.choice((0, 1, 1, 1, 2, 3, 8))
    cards, networks = [], []
    for number in range(count):
        name = f"n{number}"
        binding = "masquerade" if number == 0 and draw.random() < 0.7 else "bridge"
        fields = _maybe(
            draw,
            0.3,
            model=MODELS[1:],
            macAddress=(f"02:00:00:00:00:{number:02x}", f"DE-AD-00-00-BE-{number:02X}", "02:00:00:00:00:01"),
            pciAddress=ADDRESSES,
            bootOrder=range(1, 9),
            acpiIndex=(1, 2, 100, 16383),
            state=("up", "down", "absent"),
            ports=([{"port": 22}], [{"port": 53, "protocol": "UDP", "name": "dns"}]),
        )
        cards.append({"name": name, binding: {}, **fields})
        networks.append({"name": name, **({"pod": {}} if number == 0 else {"multus": {"networkName": name}})})
    return merged(at("domain.devices.interfaces", cards), {"networks": networks})


def _cpu(draw: Random) -> Obj:
    fields = _maybe(
        draw,
        0.4,
        sockets=(1, 2, 4, 16),
        cores=(1, 2, 3, 64),
        threads=(1, 2),
        maxSockets=(1, 4, 16),
        model=("host-model", "Nehalem", "Westmere"),
        features=([{"name": "aes"}], [{"name": "vmx", "policy": "disable"}], [{"name": "sse4.2", "policy": "require"}]),
    )
    return at("domain.cpu", fields)


def _platform(draw: Random) -> Obj:
    switch = ({}, {"enabled": True}, {"enabled": False})
    features = _maybe(draw, 0.4, acpi=switch, apic=(*switch, {"endOfInterrupt": True}), smm=switch)
    return merged(
        at("domain.features", features),
        at("domain.machine.type", draw.choice(MACHINES)),
        {"domain": _maybe(draw, 0.3, ioThreadsPolicy=("shared", "auto"), rebootPolicy=("Terminate", "Reboot"))},
    )


def _firmware(draw: Random) -> Obj:
    loader = draw.choice(
        (
            {},
            {"bios": {}},
            {"bios": {"useSerial": True}},
            {"efi": {}},
            {"efi": {"secureBoot": False}},
            {"efi": {"secureBoot": True}},
            {"efi": {"persistent": True}},
            {"efi": {"secureBoot": False, "persistent": True}},
        )
    )
    words = _maybe(draw, 0.3, uuid=("5d307ca9-b3ef-428c-8861-06e72d69f223",), serial=("S-1", "with space", "e=,x"))
    chassis = _maybe(draw, 0.2, manufacturer=("Maker", "a,b"), asset=("A=1",), sku=("sku",), serial=("s",))
    parts = [at("domain.firmware", {**words, "bootloader": loader}), at("domain.chassis", chassis)]
    if draw.random() < 0.3:
        paths = {"kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd.img"}
        kernel = {"image": "localhost/polyvisor/demo:1", **paths}
        boot = {"container": kernel, **_maybe(draw, 0.5, kernelArgs=("console=ttyS0", 'a,b  c="d"'))}
        parts.append(at("domain.firmware.kernelBoot", boot))
    return merged(*parts)


def _clock(draw: Random) -> Obj:
    base = draw.choice(
        ({"utc": {}}, {"utc": {"offsetSeconds": -3600}}, {"timezone": "Europe/Berlin"}, {"timezone": "Etc/GMT+5"}, {})
    )
    present = _maybe(draw, 0.3, present=(True, False))
    timers: Obj = {}
    for name, policies in (
        ("hpet", ("delay", "catchup", "merge", "discard")),
        ("pit", ("delay", "catchup", "discard")),
        ("rtc", ("delay", "catchup")),
    ):
        if draw.random() < 0.4:
            timers[name] = {**present, **_maybe(draw, 0.5, tickPolicy=policies)}
            if name == "rtc":
                timers[name] |= _maybe(draw, 0.3, track=("guest", "wall"))
    return at("domain.clock", {**base, "timer": timers})


def _inputs(draw: Random) -> Obj:
    count = draw.choice((1, 1, 2, 3, 14, 16))
    inputs = [
        {"name": f"i{number}", "type": "tablet", **_maybe(draw, 0.5, bus=("usb", "virtio"))} for number in range(count)
    ]
    return at("domain.devices.inputs", inputs)


def _devices(draw: Random) -> Obj:
    flags = (True, False)
    devices = _maybe(
        draw,
        0.25,
        autoattachSerialConsole=flags,
        autoattachGraphicsDevice=flags,
        autoattachMemBalloon=flags,
        autoattachPodInterface=flags,
        autoattachVSOCK=flags,
        autoattachInputDevice=flags,
        downwardMetrics=({},),
        useVirtioTransitional=flags,
        blockMultiQueue=flags,
        networkInterfaceMultiqueue=flags,
        disableHotplug=flags,
        logSerialConsole=flags,
        rng=({},),
        tpm=({}, {"persistent": True}),
        clientPassthrough=({},),
        sound=({"name": "s"}, {"name": "s", "model": "ac97"}, {"name": "s", "model": "ich9"}),
        watchdog=tuple({"name": "w", "i6300esb": {"action": a}} for a in ("poweroff", "reset", "shutdown")),
        panicDevices=([{}], [{"model": "isa"}], [{"model": "hyperv"}], [{"model": "isa"}, {"model": "hyperv"}]),
    )
    if draw.random() < 0.3:
        devices["video"] = {"type": draw.choice(("vga", "virtio", "bochs", "ramfb", "cirrus", "vmvga", "none"))}
    if draw.random() < 0.15:
        devices["filesystems"] = [{"name": "share", "virtiofs": {}}]
        share = {"volumes": [{"name": "share", "persistentVolumeClaim": {"claimName": "share"}}]}
        return merged(at("domain.devices", devices), share)
    return at("domain.devices", devices)
