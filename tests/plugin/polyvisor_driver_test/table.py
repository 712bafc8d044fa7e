"""What libvirt's test driver does with each feature, as read in its source (9.0.0; 11.3.0 does the same).

It keeps what a machine is defined with, whatever it is, and does nothing with it. That is all that is wanted of it, so
what Polyvisor writes into the domain XML is supported, and what it does not write yet is not.
"""

from __future__ import annotations

from polyvisor.drivers.answers import Table, below, no, when, yes
from polyvisor.drivers.features import BY_ID

DRIVER = "libvirt 9.0.0 src/test/test_driver.c"
DEFINE = f"{DRIVER} testDomainDefineXMLFlags (the description is kept as it was given)"
CAPABILITIES = f"{DRIVER} testBuildCapabilities"

LIFECYCLE: Table = {
    **yes(f"{DRIVER} testDomainCreateWithFlags", "lifecycle.start"),
    **yes(f"{DRIVER} testDomainSuspend (at once after the start)", "lifecycle.start-paused"),
    **yes(f"{DRIVER} testDomainShutdownFlags", "lifecycle.shutdown"),
    **yes(f"{DRIVER} testDomainDestroyFlags", "lifecycle.destroy"),
    **yes(f"{DRIVER} testDomainSuspend, testDomainResume", "lifecycle.pause"),
    **yes(f"{DRIVER} testDomainActionSetState (on_reboot)", "lifecycle.reboot-policy"),
    **yes(f"{DRIVER} testConnectDomainEventRegisterAny", "lifecycle.events"),
    **no(
        f"{DRIVER} testConnectClose (a private node goes with its connection)",
        "a pretended machine is gone with the launcher that holds it",
        "lifecycle.adopt",
    ),
    **no(
        f"{DRIVER} testDomainStartState (nothing is started)",
        "no guest runs, so there is nothing to see and nobody to talk to",
        *("lifecycle.console", "lifecycle.vnc", "lifecycle.guest-agent"),
    ),
    **no(
        f"{DRIVER} testHypervisorDriver",
        "libvirt pretends to do this, and nothing in Polyvisor asks for it in this release",
        *("lifecycle.reboot", "lifecycle.reset", "lifecycle.statistics", "lifecycle.screenshot", "lifecycle.save"),
        *("lifecycle.memory-dump", "lifecycle.snapshot", *below("lifecycle.hotplug")),
    ),
    **no(
        f"{DRIVER} testHypervisorDriver (the operation is not in its table)",
        "there is no second host to pretend to go to",
        "lifecycle.live-migration",
    ),
}

ABSENT: Table = {
    **no(CAPABILITIES, "the pretended host has 32-bit x86 CPUs", "arch.aarch64", "arch.s390x"),
    **no(CAPABILITIES, "only machines are pretended, no containers", "boot.filesystem"),
    **no(
        DEFINE,
        "libvirt would keep this, but Polyvisor does not write it in this release",
        *("cpu.pinning", "cpu.emulator-pinning", "cpu.numa", "cpu.realtime", "memory.max", "memory.hugepages"),
        *("firmware.efi.persistent", "firmware.acpi-tables", "disk.bus.ide", "disk.floppy", "disk.lun"),
        *("disk.lun.reservation", "disk.shareable", "filesystem.virtiofs", "network.multus", "interface.bridge"),
        *("interface.passt", "interface.sriov", "interface.multiqueue", "interface.mtu", "interface.dhcp-options"),
        *("interface.ports", "interface.absent", "downward-metrics", "iommu", "usb-redirection"),
        *(*below("disk.format"), *below("hyperv", "tpm", "vsock", "passthrough", "launch-security")),
        *("features.smm", "features.kvm-hidden", "features.pvspinlock"),
    ),
    **yes(DEFINE, "disk.format.raw", "disk.format.qcow2"),
    **when(
        "libvirt 11.3.0 docs/formatdomain.rst (panic model pvpanic)",
        "libvirt knows the model since 9.1",
        "panic.pvpanic",
        min_libvirt="9.1.0",
    ),
}

FEATURES: Table = {**yes(DEFINE, *BY_ID), **LIFECYCLE, **ABSENT}
