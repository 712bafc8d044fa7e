"""CPUs, memory, clock and the features of the platform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from polyvisor.domain.xml import add, on_off, yes_no
from polyvisor.machine import Memory, Vcpus

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.api import DomainSpec

HOST_MODELS = ("host-passthrough", "host-model")


def add_memory(domain: _Element, spec: DomainSpec) -> None:
    """Write the memory in bytes, and what it is made of where that is asked for or follows from what shares it."""
    memory = Memory.of(spec)
    if not memory.guest:
        raise ValueError("spec.domain.memory.guest: the machine has no memory size")
    add(domain, "memory", memory.guest, unit="B")
    page, shared = memory.page, bool(spec.devices.filesystems)
    if not page and not shared:
        return
    backing = add(domain, "memoryBacking")
    if page:
        add(add(backing, "hugepages"), "page", size=page // 1024, unit="KiB")
    add(backing, "source", type="memfd")  # for which no file system has to be mounted
    if shared:
        add(backing, "access", mode="shared")  # a guest's requests are read where the guest wrote them


def add_vcpus(domain: _Element, spec: DomainSpec, own: Sequence[int] = ()) -> None:
    """Write the number of CPUs; those that may come later are there and switched off. ``own`` are the node's for it."""
    vcpus = Vcpus.of(spec)
    allowed = ",".join(map(str, own)) or None
    now = vcpus.count if vcpus.count != vcpus.most else None
    add(domain, "vcpu", vcpus.most, placement="static", cpuset=allowed, current=now)


def add_pins(domain: _Element, spec: DomainSpec, own: Sequence[int]) -> None:
    """Write which CPU of the node each of the guest's has; one that is over is the emulator's."""
    if not own:
        return
    pins, count = add(domain, "cputune"), Vcpus.of(spec).count
    for number, cpu in enumerate(own[:count]):
        add(pins, "vcpupin", vcpu=number, cpuset=cpu)
    if own[count:]:
        add(pins, "emulatorpin", cpuset=",".join(map(str, own[count:])))


def add_cpu(domain: _Element, spec: DomainSpec) -> None:
    """Write model and topology; a model that the user left open is the driver's to choose."""
    cpu = spec.cpu
    element = add(domain, "cpu")
    if cpu and cpu.model in HOST_MODELS:
        element.set("mode", cpu.model)
    elif cpu and cpu.model:
        element.set("mode", "custom")
        element.set("match", "exact")
        add(element, "model", cpu.model)
    given = cpu is not None and any((cpu.sockets, cpu.cores, cpu.threads))
    if cpu is not None and given:
        sockets = max(cpu.sockets or 1, cpu.max_sockets or 1)
        add(element, "topology", sockets=sockets, cores=cpu.cores or 1, threads=cpu.threads or 1)
    else:
        # Without explicit words the CPUs are sockets of one core, as KubeVirt has it.
        add(element, "topology", sockets=Vcpus.of(spec).most, cores=1, threads=1)
    for feature in (cpu and cpu.features) or []:
        add(element, "feature", policy=feature.policy or "require", name=feature.name)


def add_features(domain: _Element, spec: DomainSpec) -> None:
    """Write ACPI (on unless switched off), APIC and what a hypervisor shows of itself."""
    wanted = spec.features
    features = add(domain, "features")
    if not (wanted and wanted.acpi and wanted.acpi.enabled is False):
        add(features, "acpi")
    if not (wanted and wanted.apic and wanted.apic.enabled is False):
        end_of_interrupt = wanted.apic.end_of_interrupt if wanted and wanted.apic else None
        add(features, "apic", eoi=None if end_of_interrupt is None else on_off(end_of_interrupt))
    if wanted and wanted.kvm and wanted.kvm.hidden:
        add(add(features, "kvm"), "hidden", state="on")
    if wanted and wanted.pvspinlock:
        add(features, "pvspinlock", state=on_off(wanted.pvspinlock.enabled))
    efi = spec.firmware and spec.firmware.bootloader and spec.firmware.bootloader.efi
    if efi and efi.secure_boot is not False:
        add(features, "smm", state="on")
    elif wanted and wanted.smm:
        add(features, "smm", state=on_off(wanted.smm.enabled))


def add_clock(domain: _Element, spec: DomainSpec) -> None:
    """Write the clock: UTC unless an offset or a time zone is given, with the timers that are named."""
    wanted = spec.clock
    clock = add(domain, "clock")
    if wanted and wanted.timezone:
        clock.set("offset", "timezone")
        clock.set("timezone", wanted.timezone)
    elif wanted and wanted.utc and wanted.utc.offset_seconds is not None:
        clock.set("offset", "variable")
        clock.set("adjustment", str(wanted.utc.offset_seconds))
        clock.set("basis", "utc")
    else:
        clock.set("offset", "utc")
    timers = wanted.timer if wanted else None
    if timers is None:
        return
    for name, timer in (("rtc", timers.rtc), ("pit", timers.pit), ("hpet", timers.hpet)):
        if timer is not None:
            present = yes_no(timer.present is not False)
            track = getattr(timer, "track", None)
            add(clock, "timer", name=name, present=present, tickpolicy=timer.tick_policy or None, track=track or None)
    for name, simple in (("kvmclock", timers.kvm), ("hypervclock", timers.hyperv)):
        if simple is not None:
            add(clock, "timer", name=name, present=yes_no(simple.present is not False))
