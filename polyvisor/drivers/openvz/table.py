"""What libvirt's OpenVZ driver does with each feature, as read in its source (9.0.0; 11.3.0 does the same).

It hands the tools a root filesystem, quota, uuid, network interfaces, the number of CPUs and a limit of kernel memory.
Everything else is parsed and forgotten, and so is unsupported here. It has no rules: what libvirt binds to each other
(openvzDomainDefineXMLFlags: as many CPUs now as at most, openvzSetInitialConfig: one file system) are features that are
refused alone.
"""

from __future__ import annotations

from polyvisor.drivers.answers import Table, below, no, yes
from polyvisor.drivers.base import Limit

DRIVER = "libvirt 9.0.0 src/openvz/openvz_driver.c"
NOWHERE = "libvirt 9.0.0 src/openvz/openvz_driver.c openvzDomainDefineXMLFlags (nothing there reads it)"
NO_CALLBACK = f"{DRIVER} openvzHypervisorDriver (the operation is not in its table)"
LATER = "is not wired to OpenVZ's network interfaces in this release"

LIMITS = {
    "limit.cpus": Limit(
        1028,
        f"{DRIVER} openvzConnectGetMaxVcpus",
        "and a container with more than its node has gets those of the node (openvzDomainSetVcpusInternal)",
    ),
}

FEATURES: Table = {
    **no("https://libvirt.org/drvopenvz.html", "a container shares the host's kernel", "isolation.kernel"),
    **no(
        f"{DRIVER} openvzDomainCreateWithFlags",
        "a container's root has the id of the node's root",
        "isolation.users",
    ),
    **no(f"{DRIVER} openvzDomainCreateWithFlags", "vzctl needs root on the node", "isolation.launcher"),
    **yes(f"{DRIVER} openvzDomainCreateWithFlags (vzctl start)", "lifecycle.start"),
    **yes(f"{DRIVER} openvzDomainShutdownFlags (vzctl stop)", "lifecycle.shutdown"),
    **yes(
        f"{DRIVER} openvzDomainDestroyFlags (the same vzctl stop, which kills what does not end)", "lifecycle.destroy"
    ),
    **yes(f"{DRIVER} openvzDomainSuspend, openvzDomainResume (vzctl chkpnt)", "lifecycle.pause"),
    **yes(f"{DRIVER} openvzDomainReboot (vzctl restart)", "lifecycle.reboot"),
    **no(
        NO_CALLBACK,
        "libvirt's OpenVZ driver does not have it",
        "lifecycle.reset",
        "lifecycle.events",
        "lifecycle.console",
        "lifecycle.vnc",
        "lifecycle.screenshot",
        "lifecycle.save",
        "lifecycle.memory-dump",
        "lifecycle.snapshot",
        "lifecycle.guest-agent",
        *below("lifecycle.hotplug"),
    ),
    **no(
        f"{DRIVER} openvzDomainCreateWithFlags (takes no flags)", "a container starts running", "lifecycle.start-paused"
    ),
    **no(
        f"{DRIVER} openvzDomainMigratePerform3Params",
        "moving a container is not wired to libvirt's migration in this release",
        "lifecycle.live-migration",
    ),
    **no(NOWHERE, "a container that reboots is started again by vzctl", "lifecycle.reboot-policy"),
    **yes(f"{DRIVER} openvzLoadDomains (containers live in the kernel, not in libvirt)", "lifecycle.adopt"),
    **no(
        f"{DRIVER} openvzDomainInterfaceStats (network interfaces alone)",
        "only those of network interfaces are there",
        "lifecycle.statistics",
    ),
    **no(NOWHERE, "a container boots from a tree of files, not from a disk image", "boot.disk"),
    **yes(f"{DRIVER} openvzSetInitialConfig (filesystem of type mount as VE_PRIVATE)", "boot.filesystem"),
    **yes("https://wiki.openvz.org/Quick_installation (containers run on the host's kernel)", "boot.without-kernel"),
    **no(
        f"{DRIVER} openvzSetInitialConfig (without a filesystem, an OS template of the host's by the domain's name)",
        "a container needs a root file system; add a volume with containerDisk",
        "boot.without-root",
    ),
    **no(NOWHERE, "a container is of its host's architecture", *below("arch")),
    **yes(f"{DRIVER} openvzDomainSetVcpusInternal (vzctl set --cpus)", "cpu.count"),
    **yes(
        "https://wiki.openvz.org/Quick_installation (containers run on the host's CPUs)", "cpu.model.host-passthrough"
    ),
    **no(
        NOWHERE,
        "a container sees the host's own CPUs; only their number can be limited",
        "cpu.topology",
        "cpu.threads",
        "cpu.max-sockets",
        "cpu.model.host-model",
        "cpu.model.named",
        "cpu.features",
        "cpu.pinning",
        "cpu.emulator-pinning",
        "cpu.numa",
        "cpu.realtime",
    ),
    **yes(f"{DRIVER} openvzDomainSetMemoryInternal (as the limit kmemsize)", "memory.guest"),
    **no(
        f"{DRIVER} openvzDomainSetMemoryInternal", "a container's memory is one limit", "memory.max", "memory.hugepages"
    ),
    **no(
        NOWHERE, "a container has no machine to choose", "machine.type", "machine.version", *below("features", "hyperv")
    ),
    **yes(f"{DRIVER} openvzSetDefinedUUID", "firmware.uuid"),
    **no(
        NOWHERE,
        "a container has no firmware",
        "firmware.serial",
        "firmware.chassis",
        "firmware.bios",
        "firmware.bios.serial",
        "firmware.efi",
        "firmware.efi.secure-boot",
        "firmware.efi.persistent",
        "firmware.acpi-tables",
    ),
    **no(NOWHERE, "a container runs on the host's kernel", "firmware.kernel-boot", "firmware.kernel-args"),
    **yes("https://wiki.openvz.org/Quick_installation (containers share the host's clock)", "clock.utc"),
    **no(
        NOWHERE, "a container shares the host's clock and timers", "clock.timezone", "clock.utc-offset", *below("timer")
    ),
    **no(NOWHERE, "a container has a root file system, not disks", *below("disk")),
    **yes(f"{DRIVER} openvzSetInitialConfig (the root filesystem)", "volume.container-disk"),
    **no(
        f"{DRIVER} openvzSetInitialConfig (one filesystem)",
        "a container has its root file system and no other volume",
        "volume.container-disk.further",
        "volume.empty-disk",
        "volume.host-disk",
        "volume.claim",
        "volume.data-volume",
        "volume.ephemeral",
        "volume.config-map",
        "volume.secret",
        "volume.service-account",
        "volume.downward-api",
        "volume.sysprep",
    ),
    **yes(
        f"{DRIVER} openvzSetInitialConfig (as files of the root filesystem)", "volume.cloud-init", "volume.config-drive"
    ),
    **no(f"{DRIVER} openvzSetInitialConfig (one filesystem)", "a container has one file system", "filesystem.virtiofs"),
    **no(
        f"{DRIVER} openvzDomainSetNetwork (bridge and ethernet alone)", f"the Pod's network {LATER}", *below("network")
    ),
    **no(f"{DRIVER} openvzDomainSetNetwork (bridge and ethernet alone)", f"it {LATER}", *below("interface")),
    **yes(f"{DRIVER} openvzDomainDefineXMLFlags (no console is read)", "console.none"),
    **no(
        NOWHERE,
        "a container has no such device",
        "rng",
        *below("watchdog", "input", "graphics", "video", "sound", "balloon", "tpm", "vsock", "panic"),
        *below("downward-metrics", "virtio-transitional", "iommu", "usb-redirection", "passthrough", "launch-security"),
    ),
}
