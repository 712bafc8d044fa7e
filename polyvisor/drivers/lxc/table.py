"""What libvirt's LXC driver does with each feature, as read in its source (9.0.0 to 11.3.0).

The driver refuses little and ignores much; what it ignores is unsupported here, for a user who asks for a thing and
does not get it was not served. It has no rules: libvirt's checks of a domain (src/lxc/lxc_domain.c
virLXCDomainDefPostParse, virLXCDomainDeviceDefPostParse) bind no two fields to each other.
"""

from __future__ import annotations

from polyvisor.drivers.answers import below, no, since, when, yes
from polyvisor.drivers.base import Support, Verdict

DRIVER = "libvirt 9.0.0 src/lxc/lxc_driver.c"
PROCESS = "libvirt 9.0.0 src/lxc/lxc_process.c"
CGROUP = "libvirt 9.0.0 src/lxc/lxc_cgroup.c"
CONTAINER = "libvirt 9.0.0 src/lxc/lxc_container.c"
NOWHERE = "libvirt 9.0.0 src/lxc: nothing there reads it"


def _yes(*names: str, source: str) -> dict[str, Support]:
    return {name: Support(Verdict.SUPPORTED, source) for name in names}


def _no(reason: str, *names: str, source: str = NOWHERE) -> dict[str, Support]:
    return {name: Support(Verdict.UNSUPPORTED, source, reason) for name in names}


FEATURES: dict[str, Support] = {
    **_no(
        "a container shares the node's kernel",
        "isolation.kernel",
        source="https://libvirt.org/drvlxc.html",
    ),
    **_yes(
        "isolation.users",
        source="libvirt 9.0.0 src/lxc/lxc_controller.c virLXCControllerSetupUserns (a range of ids for each machine)",
    ),
    **_no(
        "libvirt's daemon for containers needs a privileged Pod",
        "isolation.launcher",
        source="https://libvirt.org/drvlxc.html",
    ),
    **_yes("lifecycle.start", source=f"{DRIVER} lxcDomainCreateWithFiles"),
    **when(
        since("12.4.0", f"{DRIVER} lxcDomainSuspend"),
        "on a node with control groups of version 2 libvirt pauses containers since 12.4.0",
        "lifecycle.pause",
        "lifecycle.start-paused",
        node_fact=True,
    ),
    **_yes("lifecycle.shutdown", source=f"{DRIVER} lxcDomainSendProcessSignal, lxcDomainShutdownFlags"),
    **_yes("lifecycle.destroy", source=f"{DRIVER} lxcDomainDestroyFlags"),
    **_no(
        "a container's init has no one way to be told to reboot: what is a reboot to one is the end to another",
        "lifecycle.reboot",
        source=f"{DRIVER} lxcDomainReboot (initctl, else SIGHUP)",
    ),
    **_yes("lifecycle.adopt", source=f"{PROCESS} virLXCProcessReconnectAll"),
    **_yes("lifecycle.statistics", source=f"{DRIVER} lxcDomainGetInfo, lxcDomainMemoryStats, lxcDomainInterfaceStats"),
    **_yes("lifecycle.events", source=f"{DRIVER} lxcConnectDomainEventRegisterAny"),
    **_yes("lifecycle.console", source="libvirt 9.0.0 src/lxc/lxc_controller.c virLXCControllerMain"),
    **_no(
        "a container's init runs on its console, and libvirt starts no container without one",
        "console.none",
        source=f"{PROCESS} virLXCProcessStart; {CONTAINER} lxcContainerChild",
    ),
    **_no("a container boots from a tree of files, not from a disk image", "boot.disk", source=CONTAINER),
    **_yes("boot.filesystem", "boot.without-kernel", source=f"{CONTAINER} lxcContainerMountAllFS"),
    **_no(
        "a container needs a root file system; add a volume with containerDisk, dataVolume or persistentVolumeClaim",
        "boot.without-root",
        source=f"{PROCESS} virLXCProcessEnsureRootFS (without one libvirt would give it the node's own files)",
    ),
    **_yes("cpu.count", source=f"{CGROUP} virLXCCgroupSetupCpuTune (as a limit of CPU time)"),
    **_no(
        "a container sees the host's own CPUs; only their number can be limited",
        "cpu.topology",
        "cpu.threads",
        "cpu.model.host-model",
        "cpu.model.named",
    ),
    **_yes("cpu.model.host-passthrough", source="https://libvirt.org/drvlxc.html: containers run on the host's CPUs"),
    **_yes("memory.guest", source=f"{CGROUP} virLXCCgroupSetupMemTune"),
    **_no("a container has no machine to choose", "machine.type", "machine.version", "features.acpi", "features.apic"),
    **_yes("firmware.uuid", source=f"{CONTAINER} lxcContainerBuildInitCmd (environment of the init)"),
    **_no(
        "a container has no firmware",
        "firmware.serial",
        "firmware.bios",
        "firmware.bios.serial",
        "firmware.efi",
        "firmware.efi.secure-boot",
    ),
    **_no("a container runs on the host's kernel", "firmware.kernel-boot", "firmware.kernel-args"),
    **_yes("clock.utc", source="https://libvirt.org/drvlxc.html: containers share the host's clock"),
    **_no(
        "a container shares the host's clock and timers",
        "clock.timezone",
        "clock.utc-offset",
        "timer.hpet",
        "timer.kvm",
        "timer.pit",
        "timer.rtc",
        "timer.hyperv",
    ),
    **_no(
        "a container has a root file system, not disks",
        "disk.bus.virtio",
        "disk.bus.sata",
        "disk.bus.scsi",
        "disk.bus.usb",
        "disk.cdrom",
        "disk.cdrom.empty",
        "disk.cdrom.tray",
        "disk.lun",
        "disk.readonly.sata",
        "disk.serial",
        "disk.cache.none",
        "disk.cache.writethrough",
        "disk.cache.writeback",
        "disk.io",
        "disk.boot-order",
        "disk.readonly",
    ),
    **_yes(
        "volume.container-disk",
        "volume.claim",
        "volume.data-volume",
        "volume.config-map",
        "volume.secret",
        "volume.service-account",
        "volume.downward-api",
        source=f"{CONTAINER} lxcContainerMountAllFS (of mounts whose ids libvirt's hook has mapped)",
    ),
    **_yes(
        "volume.cloud-init",
        "volume.config-drive",
        source=f"{CONTAINER} lxcContainerMountAllFS (as files of the root file system)",
    ),
    **_no("a container does not run Windows", "volume.sysprep"),
    **_no("a container has a folder, which has no layer above it; use the claim itself", "volume.ephemeral"),
    **_no(
        "a container has one root file system from an image; keep other files in a persistentVolumeClaim",
        "volume.container-disk.further",
    ),
    **_no("a container cannot attach disk images in this release", "volume.empty-disk", "volume.host-disk"),
    **when(
        f"{PROCESS} virLXCProcessSetupInterfaceTap; {CONTAINER} lxcContainerSetupInterfaces",
        "the driver has no user-mode network, so the node needs networks of its own for machines (a kubelet's node, "
        "or `polyvisor up --network bridge`)",
        "network.pod",
        "network.pod.cidr",
        "network.multus",
        "interface.masquerade",
        "interface.bridge",
        "interface.mac",
        "interface.ports",
        "interface.dhcp-options",
        node_fact=True,
    ),
    **_no(
        "the driver does not read a link's state",
        "interface.link-down",
        source=f"{PROCESS} virLXCProcessSetupInterfaces",
    ),
    **_no(
        'libvirt\'s LXC driver changes no card of a container that runs ("Unable to modify live devices")',
        "lifecycle.hotplug.link",
        source=f"{DRIVER} lxcDomainUpdateDeviceFlags",
    ),
    **_yes(
        "lifecycle.hotplug.interface",
        "interface.absent",
        source=f"{DRIVER} lxcDomainAttachDeviceNetLive, lxcDomainDetachDeviceNetLive",
    ),
    **_no(
        "a container has no emulated interfaces",
        "interface.model.virtio",
        "interface.model.e1000",
        "interface.model.e1000e",
        "interface.model.igb",
        "interface.model.ne2k_pci",
        "interface.model.pcnet",
        "interface.model.rtl8139",
        "interface.boot-order",
        source=f"{PROCESS} virLXCProcessSetupInterfaces",
    ),
    **_no(
        "a container has no such device",
        "rng",
        "watchdog.i6300esb",
        "watchdog.diag288",
        "input.tablet",
        "graphics",
        "balloon",
    ),
    **no(
        f"{DRIVER} lxcHypervisorDriver",
        "libvirt's LXC driver does not have it",
        "lifecycle.reset",
        "lifecycle.vnc",
        "lifecycle.screenshot",
        "lifecycle.save",
        "lifecycle.memory-dump",
        "lifecycle.live-migration",
        "lifecycle.snapshot",
        "lifecycle.guest-agent",
        "lifecycle.hotplug.cpu",
    ),
    **no(
        f"{DRIVER} lxcHypervisorDriver (libvirt has it)",
        "libvirt can, and Polyvisor does not do it yet",
        "lifecycle.hotplug.disk",
        "lifecycle.hotplug.memory",
    ),
    **yes(f"{PROCESS} virLXCProcessMonitorExitNotify, virLXCProcessReboot (on_reboot)", "lifecycle.reboot-policy"),
    **no(NOWHERE, "a container is of its host's architecture", *below("arch")),
    **no(
        NOWHERE,
        "a container sees the host's own CPUs; only their number can be limited",
        "cpu.max-sockets",
        "cpu.features",
        "cpu.emulator-pinning",
        "cpu.realtime",
    ),
    **no(
        f"{CGROUP} virLXCCgroupSetupCpusetTune (libvirt has it)",
        "which CPUs of the node a container may have is not handed out in this release",
        "cpu.pinning",
        "cpu.numa",
    ),
    **no(NOWHERE, "a container's memory is one limit", "memory.max", "memory.hugepages"),
    **no(
        NOWHERE,
        "a container has no platform of its own",
        "features.smm",
        "features.kvm-hidden",
        "features.pvspinlock",
        *below("hyperv"),
    ),
    **no(NOWHERE, "a container has no firmware", "firmware.chassis", "firmware.efi.persistent", "firmware.acpi-tables"),
    **no(
        NOWHERE,
        "a container has a root file system, not disks",
        "disk.bus.ide",
        "disk.floppy",
        "disk.lun.reservation",
        *below("disk.format"),
        "disk.shareable",
        "disk.error-policy",
        "disk.block-size",
        "disk.discard-granularity",
        "disk.rotation-rate",
        "disk.pci-address",
        "disk.io-thread",
        "disk.io-threads-policy",
        "disk.multiqueue",
        "disk.discard",
    ),
    **no(NOWHERE, "a container's folders are mounted, not shared by virtiofs", "filesystem.virtiofs"),
    **no(
        "libvirt 9.0.0 src/util/virnetdevveth.c virNetDevVethCreate",
        "the driver does not set the MTU of a container's card",
        "interface.mtu",
    ),
    **no(
        f"{PROCESS} virLXCProcessSetupInterfaces",
        "a container has no emulated interfaces",
        "interface.passt",
        "interface.sriov",
        "interface.multiqueue",
        "interface.pci-address",
        "interface.acpi-index",
    ),
    **no(
        NOWHERE,
        "a container has no such device",
        "input.bus.virtio",
        "video.type",
        "video.qxl",
        *below("sound", "tpm", "vsock", "panic", "downward-metrics", "virtio-transitional", "iommu", "usb-redirection"),
        *below("launch-security"),
    ),
    **no(
        "libvirt 9.0.0 src/lxc/lxc_controller.c virLXCControllerSetupHostdevSubsysUSB (USB alone)",
        "no devices of the node are handed out yet",
        *below("passthrough"),
    ),
}
