"""What libvirt's Xen driver (libxl) does with each feature, as read in its source (9.0.0 and 11.3.0).

Guests of three kinds are virt types here: ``xen`` is a whole machine with firmware and emulated devices (HVM), the
others boot a kernel of their own beside Xen. What only whole machines have is conditional on that virt type.
"""

from __future__ import annotations

from polyvisor.drivers.answers import Table, below, no, when, yes
from polyvisor.drivers.base import Limit, Rule

WHOLE = "xen"
PVH = "xenpvh"
PV = "xenpv"

CONF = "libvirt 11.3.0 src/libxl/libxl_conf.c"
INFO = f"{CONF} libxlMakeDomBuildInfo"
DISK = f"{CONF} libxlMakeDisk"
NIC = f"{CONF} libxlMakeNic (bridge, ethernet and network alone)"
DOMAIN = "libvirt 11.3.0 src/libxl/libxl_domain.c"
VALIDATE = f"{DOMAIN} libxlDomainDefValidate"
DRIVER = "libvirt 11.3.0 src/libxl/libxl_driver.c"
CAPS = "libvirt 11.3.0 src/libxl/libxl_capabilities.c"
NO_CALLBACK = f"{DRIVER} libxlHypervisorDriver (the operation is not in its table)"
NOWHERE = f"{CONF} libxlBuildDomainConfig (nothing there reads it)"
LATER = "is not there in this release"
ONLY_WHOLE = "only whole machines (virt type xen) have it"

HYPERV = ("vapic", "synic", "synictimer", "frequencies", "tlbflush", "ipi", "vpindex", "relaxed", "passthrough")


XL = "https://xenbits.xen.org/docs/unstable/man/xl.cfg.5.html"
LIMITS = {
    "limit.cdroms": Limit(4, f"{XL} (vdev hda to hdd)", "they are on IDE, which has four places"),
    "limit.disks.scsi": Limit(
        7,
        "https://gitlab.com/qemu-project/qemu/-/blob/v7.2.0/blockdev.c"
        " (if_max_devs: IF_SCSI is 7, the units of the lsi53c895a)",
        "the device model has one SCSI bus of seven units; leave the bus out to get Xen's own disks",
    ),
}
RULES = {
    "rule.cpus.apic": Rule(
        "Xen always tells a guest of several CPUs of its APIC; leave features.apic out, or ask for one CPU",
        f"{XL} (apic: this option has no effect on a guest with multiple virtual CPUs)",
    ),
}


def _whole(source: str, *ids: str) -> Table:
    return when(source, ONLY_WHOLE, *ids, virt_types=(WHOLE,))


FEATURES: Table = {
    **yes("https://libvirt.org/drvxen.html (virtual machines of a hypervisor)", "isolation.kernel", "isolation.users"),
    **yes("https://libvirt.org/uri.html (a connection alone)", "isolation.launcher"),
    **yes(f"{DRIVER} libxlDomainCreateWithFlags", "lifecycle.start"),
    **yes(f"{DRIVER} libxlDomainCreateWithFlags (VIR_DOMAIN_START_PAUSED)", "lifecycle.start-paused"),
    **yes(f"{DRIVER} libxlDomainShutdownFlags (paravirtual, else the ACPI button)", "lifecycle.shutdown"),
    **yes(f"{DRIVER} libxlDomainDestroyFlags", "lifecycle.destroy"),
    **yes(f"{DRIVER} libxlDomainSuspend, libxlDomainResume", "lifecycle.pause"),
    **no(f"{DRIVER} libxlDomainReboot (libvirt has it)", f"asking a guest to reboot {LATER}", "lifecycle.reboot"),
    **yes(f"{DRIVER} libxlReconnectDomain (machines live in Xen, not in libvirt)", "lifecycle.adopt"),
    **yes(f"{DOMAIN} libxlDomainEventHandler", "lifecycle.events"),
    **yes(f"{DOMAIN} libxlConsoleCallback", "lifecycle.console"),
    **no(
        f"{DRIVER} libxlDomainBlockStats, libxlDomainMemoryStats (libvirt has them)",
        f"reading statistics {LATER}",
        "lifecycle.statistics",
    ),
    **no(f"{CONF} libxlMakeVfb (a TCP port of the host)", f"the screen on a port of the host {LATER}", "lifecycle.vnc"),
    **no(f"{DRIVER} libxlDomainSaveFlags (libvirt has it)", f"saving machines {LATER}", "lifecycle.save"),
    **no(f"{DRIVER} libxlDomainCoreDump (libvirt has it)", f"dumping memory {LATER}", "lifecycle.memory-dump"),
    **no(
        f"{DRIVER} libxlDomainMigratePerform3Params (libvirt has it)",
        f"migration {LATER}",
        "lifecycle.live-migration",
    ),
    **no(
        f"{DRIVER} libxlDomainAttachDeviceFlags, libxlDomainSetVcpusFlags (libvirt has them)",
        f"changing a running machine {LATER}",
        "lifecycle.hotplug.disk",
        "lifecycle.hotplug.interface",
        "lifecycle.hotplug.link",
        "lifecycle.hotplug.cpu",
        "lifecycle.hotplug.memory",
    ),
    **no(
        NO_CALLBACK,
        "libvirt's Xen driver does not have it",
        "lifecycle.reset",
        "lifecycle.screenshot",
        "lifecycle.snapshot",
        "lifecycle.guest-agent",
    ),
    **yes(f"{DOMAIN} libxlDomainShutdownThread (on_reboot)", "lifecycle.reboot-policy"),
    **_whole(f"{INFO} (hvmloader)", "boot.disk"),
    **when(
        f"{INFO} (hvmloader)",
        "a guest without firmware (virt types xenpvh and xenpv) needs a kernel in kernelBoot",
        "boot.without-kernel",
        virt_types=(WHOLE,),
    ),
    **yes(f"{CONF} libxlMakeDiskList (there may be none)", "boot.without-root"),
    **no(NOWHERE, "a machine boots from a disk image or a kernel, not from a tree of files", "boot.filesystem"),
    **no(
        f"{CAPS} libxlCapsInitGuests",
        "guests of another architecture than x86_64 are not offered in this release",
        *below("arch"),
    ),
    **yes(f"{INFO} (max_vcpus)", "cpu.count"),
    **yes(f"{INFO} (avail_vcpus)", "cpu.max-sockets"),
    **no(
        f"{INFO} (numbers of CPUs alone)",
        "libxl is told only how many CPUs there are; use cores",
        "cpu.topology",
        "cpu.threads",
    ),
    **yes(f"{INFO} (guests see the host's CPU, without its virtualisation)", "cpu.model.host-passthrough"),
    **no(INFO, "libvirt's Xen driver does not read it; use host-passthrough", "cpu.model.host-model"),
    **no(
        f"{INFO} (a warning in the log)",
        "libvirt's Xen driver ignores named models; use host-passthrough",
        "cpu.model.named",
    ),
    **when(
        f"{INFO} (libxl_cpuid_parse_config)",
        "PV guests cannot, nor can hosts whose CPU libvirt does not recognise",
        "cpu.features",
        virt_types=(WHOLE, PVH),
        node_fact=True,
    ),
    **no(
        f"{CONF} libxlSetVcpuAffinities, libxlMakeVnumaList (libvirt has it)",
        "which CPUs and which memory of the node a machine may have is not handed out in this release",
        "cpu.pinning",
        "cpu.numa",
    ),
    **no(NOWHERE, "Xen has no such setting", "cpu.emulator-pinning", "cpu.realtime"),
    **yes(f"{INFO} (in whole MiB)", "memory.guest"),
    **no(f"{INFO} (the first size alone)", f"room for more memory {LATER}", "memory.max"),
    **no(NOWHERE, "Xen chooses page sizes itself; leave it out", "memory.hugepages"),
    **no(
        f"{CAPS} libxlCapsInitGuests (xenfv, xenpvh, xenpv)",
        "Xen's machine types follow from hypervisor.virtType: xen, xenpvh or xenpv",
        "machine.type",
        "machine.version",
    ),
    **_whole(f"{INFO} (acpi, apic)", "features.acpi", "features.apic"),
    **no(
        NOWHERE, "libvirt's Xen driver does not read it", "features.smm", "features.kvm-hidden", "features.pvspinlock"
    ),
    **when(
        f"{INFO} (viridian_enable)",
        "whole machines (virt type xen) alone, from libvirt 11.3.0 on",
        *(f"hyperv.{name}" for name in HYPERV),
        min_libvirt="11.3.0",
        virt_types=(WHOLE,),
    ),
    **no(
        f"{INFO} (a warning: a setting of all of Xen)",
        "in Xen this is a setting of the whole host",
        "hyperv.spinlocks",
        "hyperv.vendorid",
    ),
    **no(
        f"{INFO} (an error is told, and the machine starts without it)",
        "Xen does not have it",
        "hyperv.runtime",
        "hyperv.reset",
        "hyperv.reenlightenment",
        "hyperv.evmcs",
    ),
    **yes(f"{CONF} libxlMakeDomCreateInfo", "firmware.uuid"),
    **no(
        NOWHERE,
        "libvirt's Xen driver does not read SMBIOS entries",
        "firmware.serial",
        "firmware.chassis",
    ),
    **_whole(f"{INFO} (hvmloader's SeaBIOS)", "firmware.bios"),
    **no(NOWHERE, "the BIOS does not write to the serial port", "firmware.bios.serial"),
    **when(
        f"{INFO} (LIBXL_BIOS_TYPE_OVMF)",
        "whole machines (virt type xen) alone, on a host with Xen's UEFI firmware (ovmf.bin)",
        "firmware.efi",
        virt_types=(WHOLE,),
        node_fact=True,
    ),
    **no(VALIDATE, "Xen has no secure boot; set efi.secureBoot to false", "firmware.efi.secure-boot"),
    **no(f"{INFO} (no nvram)", "libxl keeps no UEFI variables", "firmware.efi.persistent"),
    **no(f"{INFO} (acpi_firmware: libvirt has one table)", f"tables of one's own {LATER}", "firmware.acpi-tables"),
    **yes(f"{INFO} (kernel, ramdisk, cmdline)", "firmware.kernel-boot", "firmware.kernel-args"),
    **yes(INFO, "clock.utc"),
    **yes(f"{INFO} (rtc_timeoffset)", "clock.utc-offset"),
    **no(INFO, "a clock in a time zone is refused; use utc.offsetSeconds", "clock.timezone"),
    **no(
        f"{INFO} (present='yes' alone is read)",
        "Xen always gives an HPET, and libvirt cannot switch it off; leave it out",
        "timer.hpet",
    ),
    **no(INFO, "libvirt's Xen driver refuses the timer", "timer.kvm", "timer.pit", "timer.rtc", "timer.hyperv"),
    **_whole(f"{DISK} (target sdX)", "disk.bus.scsi"),
    **_whole(f"{DISK} (target hdX)", "disk.bus.ide", "disk.cdrom"),
    **no(
        f"{DISK} (the target's name alone chooses)",
        "Xen has no such disks; leave the bus out to get Xen's own (xvda)",
        "disk.bus.virtio",
        "disk.bus.sata",
        "disk.bus.usb",
    ),
    **no(f"{CAPS} libxlMakeDomainDeviceDiskCaps", "there are no floppy drives", "disk.floppy"),
    **no(DISK, "a CD-ROM drive without media is not offered in this release", "disk.cdrom.empty"),
    **no(DISK, "libxl is not told of the tray", "disk.cdrom.tray"),
    **no(DISK, "volumes are image files in this release", "disk.lun", "disk.lun.reservation"),
    **yes(f"{DISK} (driver qemu)", "disk.format.raw", "disk.format.qcow2"),
    **no(
        f"{DISK} (libxenlight does not support disk format)",
        "bring the image as qcow2 or raw (`qemu-img convert`)",
        "disk.format.vmdk",
        "disk.format.vdi",
        "disk.format.vhdx",
        "disk.format.ploop",
    ),
    **yes(f"{DISK} (readwrite)", "disk.readonly"),
    **no(DISK, "Xen has no SATA disks; leave the bus out", "disk.readonly.sata"),
    **no(
        f"{DISK} (nothing there reads it)",
        "libxl is not told; leave it out",
        "disk.serial",
        *below("disk.cache"),
        "disk.io",
        "disk.error-policy",
        "disk.block-size",
        "disk.discard-granularity",
        "disk.rotation-rate",
        "disk.pci-address",
        "disk.io-thread",
        "disk.io-threads-policy",
        "disk.multiqueue",
    ),
    **no(
        f"{INFO} (kinds of devices, not single ones)",
        "the first disk boots, then the CD-ROM; put the disk to boot from first",
        "disk.boot-order",
    ),
    **no(DISK, "a volume belongs to one machine in this release", "disk.shareable"),
    **yes(f"{CONF} libxlDiskSetDiscard (on unless switched off)", "disk.discard"),
    **yes(
        f"{DISK} (image files)",
        "volume.container-disk",
        "volume.container-disk.further",
        "volume.empty-disk",
        "volume.host-disk",
        "volume.claim",
        "volume.cloud-init",
        "volume.data-volume",
        "volume.ephemeral",
        "volume.config-drive",
        "volume.config-map",
        "volume.secret",
        "volume.downward-api",
        "volume.sysprep",
    ),
    **no(NOWHERE, "a kubelet hands out the token, and this hypervisor's nodes have none", "volume.service-account"),
    **no(NOWHERE, "Xen has no shared folders; use a disk", "filesystem.virtiofs"),
    **no(
        NIC,
        "it has no user-mode network, and bridges of the host are not offered in this release",
        *below("network", "interface"),
    ),
    **_whole(f"{DOMAIN} libxlDomainDefPostParse (other guests always have a console)", "console.none"),
    **no(NOWHERE, "libvirt's Xen driver does not read it; the kernel's own sources have to do", "rng"),
    **no(
        NOWHERE,
        "libvirt's Xen driver does not read it",
        *below("watchdog", "tpm", "vsock", "panic", "iommu", "launch-security"),
        *below("downward-metrics"),
        "virtio-transitional",
        "usb-redirection",
    ),
    **_whole(f"{INFO} (usbdevice_list)", "input.tablet"),
    **no(f"{INFO} (other buses than usb are passed over)", "pointer devices are on USB alone", "input.bus.virtio"),
    **no(
        f"{CONF} libxlMakeVfb (a TCP port of the host)",
        f"the screen on a port of the host {LATER}",
        "graphics",
        "video.type",
        "video.qxl",
    ),
    **_whole(f"{VALIDATE} (the first sound card)", "sound.ac97"),
    **no(VALIDATE, "Xen does not have this sound card; use ac97", "sound.ich9"),
    **yes(f"{DOMAIN} libxlDomainDefPostParse (Xen's own balloon is always there)", "balloon"),
    **no(
        f"{CONF} libxlMakePCIList, libxlMakeUSBList (libvirt has PCI and USB)",
        "no devices of the host are handed out in this release",
        *below("passthrough"),
    ),
}
