"""CPUs, memory, firmware, platform features and the clock, read from a domain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvisor.adoption.draft import SPEC, Draft, number
from polyvisor.adoption.values import Outcome
from polyvisor.api import Obj, Problem
from polyvisor.api.quantity import format_quantity
from polyvisor.domain.compute import HOST_MODELS
from polyvisor.drivers.enlightenments import read_enlightenments

if TYPE_CHECKING:
    from lxml.etree import _Element

UNITS = {
    "b": 1,
    "bytes": 1,
    **{unit: 1000**power for power, names in enumerate("kb mb gb tb".split(), 1) for unit in (names,)},
    **{
        unit: 1024**power
        for power, names in enumerate(("k kib", "m mib", "g gib", "t tib", "p pib"), 1)
        for unit in names.split()
    },
}
"""libvirt's units of memory, in lower case."""
ARCHITECTURES = {"x86_64": "amd64", "i686": "amd64", "aarch64": "arm64", "s390x": "s390x"}
COMMON = "x86_64"
CHASSIS = ("manufacturer", "version", "serial", "asset", "sku")
TIMERS = {"rtc": "rtc", "pit": "pit", "hpet": "hpet", "kvmclock": "kvm"}
TRACKS = ("guest", "wall")


def size_of(element: _Element) -> int | None:
    """Return an amount of memory in bytes; None for what is no amount."""
    amount, unit = number(element.text), element.get("unit", "KiB").strip().lower()
    return None if amount is None or unit not in UNITS else amount * UNITS[unit]


def read_memory(draft: Draft) -> None:
    """Read the memory, how far it may grow, and what it is made of."""
    memory: Obj = {}
    element = draft.domain.find("memory")
    size = size_of(element) if element is not None else None
    if size:
        memory["guest"] = format_quantity(size)
    current = draft.domain.find("currentMemory")
    if current is not None and size:
        same = size_of(current) == size
        text = f"{SPEC}.domain.memory.guest" if same else "the balloon gives the guest all of its memory at a start"
        draft.settle_all(current, Outcome.KEPT if same else Outcome.CHANGED, text)
    most = draft.domain.find("maxMemory")
    if most is not None and (room := size_of(most)) and size and room > size:
        memory["maxGuest"] = format_quantity(room)
        draft.settle(most, "", Outcome.KEPT, f"{SPEC}.domain.memory.maxGuest")
    pages = draft.domain.find("memoryBacking/hugepages")
    if pages is not None:
        page = pages.find("page")
        bytes_ = _page_size(page) if page is not None else 2 << 20
        if bytes_:
            memory["hugepages"] = {"pageSize": format_quantity(bytes_)}
            if page is None:
                draft.settle(
                    pages, "", Outcome.CHANGED, "becomes huge pages of 2Mi; the host's usual size is not known"
                )
    if memory:
        draft.board["memory"] = memory


def _page_size(page: _Element) -> int | None:
    amount, unit = number(page.get("size")), page.get("unit", "KiB").lower()
    return amount * UNITS[unit] if amount and unit in UNITS else None


def read_cpus(draft: Draft, as_cores: bool) -> None:
    """Read number, topology, model and features; ``as_cores``: CPUs without a topology are cores of one socket."""
    cpu: Obj = {}
    vcpu = draft.domain.find("vcpu")
    most = (number(vcpu.text) if vcpu is not None else None) or 1
    now = (number(vcpu.get("current")) if vcpu is not None else None) or most
    topology = draft.domain.find("cpu/topology")
    if topology is not None:
        sockets, cores, threads = (number(topology.get(name)) or 1 for name in ("sockets", "cores", "threads"))
        folded = (number(topology.get("dies")) or 1) * (number(topology.get("clusters")) or 1)
        if sockets * folded * cores * threads != most:
            sockets, folded, cores, threads = most, 1, 1, 1
    elif as_cores:
        cores = now if most % now == 0 else most  # the rest is room for more sockets of as many
        sockets, folded, threads = most // cores, 1, 1
    else:
        sockets, folded, cores, threads = most, 1, 1, 1
    sockets *= folded
    if now < most and now % (cores * threads) == 0:
        cpu["maxSockets"], sockets = sockets, now // (cores * threads)
        draft.settle(vcpu, "current", Outcome.KEPT, f"{SPEC}.domain.cpu.sockets")
    cpu.update(sockets=sockets, cores=cores, threads=threads)
    element = draft.domain.find("cpu")
    if element is not None:
        mode, model = element.get("mode"), (element.findtext("model") or "").strip()
        if mode in HOST_MODELS:
            cpu["model"] = mode
        elif mode in (None, "custom") and model:
            cpu["model"] = model
        features = [_cpu_feature(one) for one in element.iterfind("feature") if one.get("name")]
        if features:
            cpu["features"] = features
    draft.board["cpu"] = cpu


def _cpu_feature(element: _Element) -> Obj:
    return {"name": element.get("name"), "policy": element.get("policy") or "require"}


def read_features(draft: Draft) -> None:
    """Read what the platform has; ACPI and APIC are on in a machine unless they are switched off."""
    features = draft.domain.find("features")
    found: Obj = {}
    for name in ("acpi", "apic"):
        element = features.find(name) if features is not None else None
        if element is None:
            found[name] = {"enabled": False}
        elif name == "apic" and element.get("eoi"):
            found[name] = {"endOfInterrupt": element.get("eoi") == "on"}
    if features is not None:
        hidden = features.find("kvm/hidden")
        if hidden is not None and hidden.get("state") == "on":
            found["kvm"] = {"hidden": True}
        for name in ("pvspinlock", "smm"):
            element = features.find(name)
            if element is not None and not (name == "smm" and _secure(draft)):
                found[name] = {"enabled": element.get("state") != "off"}
        found |= read_enlightenments(features)
    if found:
        draft.board["features"] = found


def _secure(draft: Draft) -> bool:
    feature = draft.domain.find("os/firmware/feature[@name='secure-boot']")
    loader = draft.domain.find("os/loader")
    if feature is not None:
        return feature.get("enabled") == "yes"
    return loader is not None and loader.get("secure") == "yes"


def read_firmware(draft: Draft) -> None:
    """Read how the machine boots, and what it reads about itself."""
    domain, firmware = draft.domain, dict[str, Obj | str]()
    if uuid := (domain.findtext("uuid") or "").strip():
        firmware["uuid"] = uuid
    for entry in domain.iterfind("sysinfo/system/entry[@name='serial']"):
        if entry.text:
            firmware["serial"] = entry.text
    chassis = {str(one.get("name")): one.text for one in domain.iterfind("sysinfo/chassis/entry") if one.text}
    if known := {name: chassis[name] for name in CHASSIS if name in chassis}:
        draft.board["chassis"] = known
    _bootloader(draft, firmware)
    _kernel(draft, firmware)
    if firmware:
        draft.board["firmware"] = firmware
    kind = domain.find("os/type")
    if kind is not None and kind.get("machine"):
        draft.board["machine"] = {"type": kind.get("machine")}
    if kind is not None and (architecture := kind.get("arch", COMMON)) != COMMON:
        if architecture not in ARCHITECTURES:
            accepted = ", ".join(ARCHITECTURES)
            draft.refuse(kind, f"architecture {architecture!r} is not supported; accepted: {accepted}")
        else:
            draft.spec["architecture"] = ARCHITECTURES[architecture]


def _bootloader(draft: Draft, firmware: Obj) -> None:
    system = draft.domain.find("os")
    if system is None:
        return
    loader, nvram, serial = (system.find(name) for name in ("loader", "nvram", "bios"))
    if system.get("firmware") == "efi" or (loader is not None and loader.get("type") == "pflash"):
        efi: Obj = {"secureBoot": _secure(draft)}
        if nvram is not None and not draft.ours:
            efi["persistent"] = True
            path = "the file stays on the host; the machine keeps new variables in a claim of its own"
            draft.settle_all(nvram, Outcome.CHANGED, path)
        firmware["bootloader"] = {"efi": efi}
        if loader is not None:
            draft.settle_all(loader, Outcome.CHANGED, "the host's firmware of this kind is chosen at each start")
    elif serial is not None and serial.get("useserial") == "yes":
        firmware["bootloader"] = {"bios": {"useSerial": True}}


def _kernel(draft: Draft, firmware: Obj) -> None:
    kernel, initrd, arguments = (draft.domain.find(f"os/{name}") for name in ("kernel", "initrd", "cmdline"))
    if kernel is None or not kernel.text:
        return
    image = draft.mapping.kernel_image
    if not image:
        why = "a machine's kernel is in a container image; give the image that has it at this path"
        for element in (kernel, initrd, arguments):
            draft.settle(element, "", Outcome.BESIDE, why)
        return
    container: Obj = {"image": image, "kernelPath": kernel.text.strip()}
    if initrd is not None and initrd.text:
        container["initrdPath"] = initrd.text.strip()
    boot: Obj = {"container": container}
    if arguments is not None and arguments.text:
        boot["kernelArgs"] = arguments.text
    firmware["kernelBoot"] = boot
    for element in (kernel, initrd):
        draft.settle(element, "", Outcome.KEPT, f"{SPEC}.domain.firmware.kernelBoot.container")


def read_clock(draft: Draft) -> None:
    """Read offset and timers."""
    element = draft.domain.find("clock")
    if element is None:
        return
    clock: Obj = {}
    offset = element.get("offset", "utc")
    adjustment = element.get("adjustment", "")
    if offset == "timezone" and element.get("timezone"):
        clock["timezone"] = element.get("timezone")
    elif offset == "variable" and adjustment.removeprefix("-").isdigit() and element.get("basis", "utc") == "utc":
        clock["utc"] = {"offsetSeconds": int(adjustment)}
    elif offset != "utc":
        draft.settle(element, "offset", Outcome.CHANGED, "becomes utc; give clock.timezone for a clock in local time")
    timers: Obj = {}
    for timer in element.iterfind("timer"):
        name = timer.get("name", "")
        key = TIMERS.get(name) or (name.removesuffix("clock") if name.endswith("vclock") else "")
        if not key or (key == "rtc" and timer.get("track", TRACKS[0]) not in TRACKS):
            continue
        timers[key] = {} if timer.get("present", "yes") == "yes" else {"present": False}
        for attribute, wanted in (("tickpolicy", "tickPolicy"), ("track", "track")):
            if value := timer.get(attribute):
                timers[key][wanted] = value
    if timers:
        clock["timer"] = timers
        clock.setdefault("utc", {}) if "timezone" not in clock else None
    if clock:
        draft.board["clock"] = clock


def read_reboot(draft: Draft) -> None:
    """Read what a reboot from inside does."""
    if draft.domain.findtext("on_reboot") == "destroy":
        draft.board["rebootPolicy"] = "Terminate"
    if not draft.board.get("memory", {}).get("guest"):
        message = "the domain has no memory size; an amount with a unit is expected"
        draft.problems.append(Problem("memory", message, "FieldValueRequired"))
