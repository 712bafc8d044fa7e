"""The catalogue: everything that a machine's spec can ask for and that some driver lacks, and which fields ask for it.

A feature is data: an id, a title for people, and places in the spec. Some are asked for by no field: those of the
lifecycle, which users' actions ask for, and those that KubeVirt's API has no word for but an administrator compares
(image formats, IDE). There is no second list: admission, placement, ``explain``, documents and tests all read this one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polyvisor.drivers.limits import COUNTABLES
from polyvisor.drivers.places import Place, Places, Whole, enabled, is_set, more_than_one, wire_pattern
from polyvisor.drivers.rules import COMBINATIONS

if TYPE_CHECKING:
    from polyvisor.api import VirtualMachineInstanceSpec


@dataclass(frozen=True, slots=True)
class Feature:
    """One row of the table. ``places`` are where a spec asks for it; none: no field does.

    ``remedy`` is for a feature that is asked for by leaving something out: the field to give (a list's with ``[]``: an
    item more), and examples.
    """

    id: str
    title: str
    places: tuple[Place, ...] = ()
    remedy: tuple[str, Sequence[Any]] | None = None

    @property
    def group(self) -> str:
        """The first word of the id, by which documents order features."""
        return self.id.partition(".")[0]

    @property
    def wire_places(self) -> tuple[str, ...]:
        """The places in the manifest's own words, such as ``spec.domain.devices.disks[].disk.bus``."""
        return tuple(wire_pattern(pattern) for pattern, _ in self.places)

    def paths(self, spec: VirtualMachineInstanceSpec) -> list[str]:
        """Return the fields of ``spec`` that need the feature."""
        return Places([(self.id, self.places)]).find(spec).get(self.id, [])


@dataclass(frozen=True, slots=True)
class Counted(Feature):
    """A number of things that a spec has, which may be more than a driver takes."""

    count: int = 0


class Combined(Feature):
    """Fields of a spec that meet and that a driver may have a rule against."""


def _feature(id: str, title: str, *asked: str | Place) -> Feature:
    """Make a feature; a place without a test is asked for by being given at all."""
    return Feature(id, title, tuple((place, is_set) if isinstance(place, str) else place for place in asked))


def _named_model(value: Any) -> bool:
    return bool(value) and value not in ("host-passthrough", "host-model")


def _no_kernel(domain: Any) -> bool:
    boot = domain.firmware and domain.firmware.kernel_boot
    return not (boot and boot.container)


def _no_root(spec: Any) -> list[str]:
    """Nothing to boot from is among the volumes: none that holds a disk or a tree, or it is in a CD-ROM drive."""
    discs = {disk.name for disk in spec.domain.devices.disks or [] if disk.cdrom is not None}
    volumes = [volume for volume in spec.volumes or [] if volume.name not in discs]
    return [] if any(getattr(volume, kind) is not None for volume in volumes for kind in ROOTS) else ["spec.volumes"]


def _empty_drives(spec: Any) -> list[str]:
    """A CD-ROM drive has no disc if no volume has its name."""
    volumes = {volume.name for volume in spec.volumes or []}
    drives = [(n, disk.name) for n, disk in enumerate(spec.domain.devices.disks or []) if disk.cdrom is not None]
    return [f"spec.domain.devices.disks[{number}]" for number, name in drives if name not in volumes]


def _further_images(spec: Any) -> list[str]:
    """The first container image may become the root filesystem; what are the others?"""
    found = [n for n, volume in enumerate(spec.volumes or []) if volume.container_disk is not None]
    return [f"spec.volumes[{number}].containerDisk" for number in found[1:]]


def _secure(efi: Any) -> bool:
    return efi is not None and efi.secure_boot is not False


def _wanted_uuid(value: Any) -> bool:
    """Whether a user gave it: those of version 8 are Polyvisor's own, for a machine's identity over its runs."""
    return bool(value) and str(value)[14:15] != "8"


def _of_a_version(kind: Any) -> bool:
    """Whether a machine type is another than those that are there wherever machine types are."""
    return bool(kind) and kind not in EVERYWHERE


def _readonly_sata(disk: Any) -> bool:
    return disk is not None and bool(disk.readonly) and disk.bus == "sata"


DISK = "domain.devices.disks[]"
NIC = "domain.devices.interfaces[]"
CPU = "domain.cpu"
MEMORY = "domain.memory"
DEVICES = "domain.devices"
FIRMWARE = "domain.firmware"
TIMER = "domain.clock.timer"
SWITCHES = "domain.features"
HYPERV = "domain.features.hyperv"
VOLUME = "volumes[]"
SECURITY = "domain.launch_security"
ROOTS = ("container_disk", "persistent_volume_claim", "data_volume", "host_disk", "ephemeral")
"""Kinds of volumes that a machine may have its root on; whether its driver has them is asked apart."""
EVERYWHERE = ("q35", "pc")
"""Machine types that stand for the newest version that is installed."""
PROBES = ("liveness_probe", "readiness_probe")


def _buses() -> Iterator[Feature]:
    for bus, title in (("virtio", "virtio"), ("sata", "SATA"), ("scsi", "SCSI"), ("usb", "USB")):
        targets = ((f"{DISK}.disk.bus", bus), (f"{DISK}.cdrom.bus", bus), (f"{DISK}.lun.bus", bus))
        yield _feature(f"disk.bus.{bus}", f"{title} disks", *targets)


def _formats() -> Iterator[Feature]:
    for name in ("raw", "qcow2", "vmdk", "vdi", "vhdx", "ploop"):
        yield _feature(f"disk.format.{name}", f"Disk images in format {name}")


def _caches() -> Iterator[Feature]:
    for mode in ("none", "writethrough", "writeback"):
        yield _feature(f"disk.cache.{mode}", f"Disk cache mode {mode}", (f"{DISK}.cache", mode))


def _nics() -> Iterator[Feature]:
    for model in ("virtio", "e1000", "e1000e", "igb", "ne2k_pci", "pcnet", "rtl8139"):
        yield _feature(f"interface.model.{model}", f"Network interface {model}", (f"{NIC}.model", model))


def _enlightenments() -> Iterator[Feature]:
    for name in (
        *("relaxed", "vapic", "spinlocks", "vpindex", "runtime", "synic", "synictimer", "reset"),
        *("vendorid", "frequencies", "reenlightenment", "tlbflush", "ipi", "evmcs"),
    ):
        yield _feature(f"hyperv.{name}", f"Hyper-V enlightenment {name}", (f"{HYPERV}.{name}", enabled))


def _actions() -> Iterator[Feature]:
    for name, title in (
        ("start", "Start"),
        ("shutdown", "Graceful power down"),
        ("destroy", "Forced power off"),
        ("pause", "Pause and resume"),
        ("reboot", "Reboot from inside (soft reboot)"),
        ("reset", "Reset"),
        ("adopt", "Keep running while the launcher is replaced"),
        ("events", "Lifecycle events"),
        ("statistics", "Statistics of CPU, memory and devices"),
        ("console", "Serial console"),
        ("vnc", "Graphical console (VNC)"),
        ("screenshot", "Screenshot"),
        ("save", "Save to a file and restore"),
        ("live-migration", "Live migration"),
        ("snapshot", "Snapshots while running"),
        ("hotplug.interface", "Attach and detach network interfaces while running"),
        ("hotplug.link", "Set a network interface's link up or down while running"),
        ("hotplug.cpu", "Change the number of CPUs while running"),
        ("hotplug.memory", "Change the memory while running"),
    ):
        yield _feature(f"lifecycle.{name}", title)


FEATURES: tuple[Feature, ...] = (
    *_actions(),
    _feature("isolation.kernel", "A kernel of the guest's own, kept from the host by a hypervisor"),
    _feature("isolation.users", "Root in the guest is not root on the node"),
    _feature("isolation.launcher", "A launcher without privileges on the node"),
    _feature(
        "lifecycle.guest-agent",
        "Guest agent",
        "access_credentials[].ssh_public_key.propagation_method.qemu_guest_agent",
        "access_credentials[].user_password.propagation_method.qemu_guest_agent",
        *(f"{probe}.{way}" for probe in PROBES for way in ("exec", "guest_agent_ping")),
    ),
    _feature(
        "lifecycle.hotplug.disk",
        "Attach and detach disks while running",
        (f"{VOLUME}.persistent_volume_claim.hotpluggable", True),
        (f"{VOLUME}.data_volume.hotpluggable", True),
    ),
    _feature("lifecycle.memory-dump", "Memory dump", f"{VOLUME}.memory_dump"),
    _feature("lifecycle.start-paused", "Start paused", "start_strategy"),
    _feature("lifecycle.reboot-policy", "Terminate instead of rebooting", ("domain.reboot_policy", "Terminate")),
    _feature("boot.disk", "Boot from a disk image"),
    _feature("boot.filesystem", "Boot from a tree of files"),
    Feature(
        "boot.without-kernel",
        "Boot with no kernel named in the manifest",
        (("domain", _no_kernel),),
        remedy=("spec.domain.firmware.kernelBoot.container", [{"image": "IMAGE", "kernelPath": "/boot/vmlinuz"}]),
    ),
    Feature(
        "boot.without-root",
        "Start without a root volume",
        (Whole("volumes", _no_root),),
        remedy=(
            "spec.volumes[]",
            [
                {"name": "root", "containerDisk": {"image": "IMAGE"}},
                {"name": "root", "hostDisk": {"path": "/PATH", "type": "Disk"}},
            ],
        ),
    ),
    _feature("arch.aarch64", "Guests for 64-bit ARM", ("architecture", "arm64")),
    _feature("arch.s390x", "Guests for s390x", ("architecture", "s390x")),
    _feature(
        "cpu.count",
        "More than one CPU",
        (f"{CPU}.cores", more_than_one),
        (f"{CPU}.sockets", more_than_one),
        (f"{CPU}.threads", more_than_one),
    ),
    _feature("cpu.topology", "More than one CPU socket", (f"{CPU}.sockets", more_than_one)),
    _feature("cpu.threads", "More than one thread a core", (f"{CPU}.threads", more_than_one)),
    _feature("cpu.max-sockets", "Room for more CPUs later", (f"{CPU}.max_sockets", more_than_one)),
    _feature("cpu.model.host-passthrough", "CPU of the host, unchanged", (f"{CPU}.model", "host-passthrough")),
    _feature("cpu.model.host-model", "CPU like the host's", (f"{CPU}.model", "host-model")),
    _feature("cpu.model.named", "Named CPU model", (f"{CPU}.model", _named_model)),
    _feature("cpu.features", "Single CPU features", f"{CPU}.features[].name"),
    _feature("cpu.pinning", "CPUs of its own (pinning)", (f"{CPU}.dedicated_cpu_placement", True)),
    _feature("cpu.emulator-pinning", "A CPU of its own for emulation", (f"{CPU}.isolate_emulator_thread", True)),
    _feature("cpu.numa", "NUMA nodes as the host's", f"{CPU}.numa.guest_mapping_passthrough"),
    _feature("cpu.realtime", "Real-time CPUs", f"{CPU}.realtime"),
    _feature("memory.guest", "Memory size", f"{MEMORY}.guest"),
    _feature("memory.max", "Room for more memory later", f"{MEMORY}.max_guest"),
    _feature("memory.hugepages", "Huge pages", f"{MEMORY}.hugepages"),
    _feature("machine.type", "Machine type", ("domain.machine.type", lambda kind: kind in EVERYWHERE)),
    _feature("machine.version", "Machine type of one version", ("domain.machine.type", _of_a_version)),
    _feature("features.acpi", "ACPI switched off or on", f"{SWITCHES}.acpi"),
    _feature("features.apic", "APIC", f"{SWITCHES}.apic"),
    _feature("features.smm", "System management mode", f"{SWITCHES}.smm"),
    _feature("features.kvm-hidden", "KVM hidden from the guest", (f"{SWITCHES}.kvm.hidden", True)),
    _feature("features.pvspinlock", "Paravirtual spinlocks", f"{SWITCHES}.pvspinlock"),
    *_enlightenments(),
    _feature("hyperv.passthrough", "Every Hyper-V enlightenment there is", (f"{SWITCHES}.hyperv_passthrough", enabled)),
    _feature("firmware.uuid", "Firmware UUID", (f"{FIRMWARE}.uuid", _wanted_uuid)),
    _feature("firmware.serial", "System serial number", (f"{FIRMWARE}.serial", bool)),
    _feature("firmware.chassis", "Chassis information (SMBIOS)", "domain.chassis"),
    _feature("firmware.bios", "BIOS", f"{FIRMWARE}.bootloader.bios"),
    _feature(
        "firmware.bios.serial", "BIOS output on the serial port", (f"{FIRMWARE}.bootloader.bios.use_serial", True)
    ),
    _feature("firmware.efi", "UEFI", f"{FIRMWARE}.bootloader.efi"),
    _feature("firmware.efi.secure-boot", "UEFI secure boot", (f"{FIRMWARE}.bootloader.efi", _secure)),
    _feature("firmware.efi.persistent", "UEFI variables kept", (f"{FIRMWARE}.bootloader.efi.persistent", True)),
    _feature("firmware.acpi-tables", "ACPI tables of one's own", f"{FIRMWARE}.acpi"),
    _feature("firmware.kernel-boot", "Direct kernel boot", f"{FIRMWARE}.kernel_boot.container"),
    _feature("firmware.kernel-args", "Kernel arguments", (f"{FIRMWARE}.kernel_boot.kernel_args", bool)),
    _feature("clock.timezone", "Clock in a time zone", ("domain.clock.timezone", bool)),
    _feature("clock.utc", "Clock in UTC", "domain.clock.utc"),
    _feature("clock.utc-offset", "Clock with an offset", "domain.clock.utc.offset_seconds"),
    _feature("timer.hpet", "HPET timer", f"{TIMER}.hpet"),
    _feature("timer.kvm", "KVM clock", f"{TIMER}.kvm"),
    _feature("timer.pit", "PIT timer", f"{TIMER}.pit"),
    _feature("timer.rtc", "RTC timer", f"{TIMER}.rtc"),
    _feature("timer.hyperv", "Hyper-V clock", f"{TIMER}.hyperv"),
    *_buses(),
    _feature("disk.bus.ide", "IDE disks"),
    _feature("disk.cdrom", "CD-ROM drives", f"{DISK}.cdrom"),
    _feature("disk.cdrom.empty", "CD-ROM drives without media", Whole("domain.devices.disks[].cdrom", _empty_drives)),
    _feature("disk.cdrom.tray", "CD-ROM with its tray open", (f"{DISK}.cdrom.tray", "open")),
    _feature("disk.floppy", "Floppy drives"),
    _feature("disk.lun", "SCSI LUN passed through", f"{DISK}.lun"),
    _feature("disk.lun.reservation", "SCSI persistent reservations", (f"{DISK}.lun.reservation", True)),
    *_formats(),
    _feature("disk.readonly", "Read-only disks", (f"{DISK}.disk.readonly", True), (f"{DISK}.lun.readonly", True)),
    _feature("disk.readonly.sata", "Read-only SATA disks", (f"{DISK}.disk", _readonly_sata)),
    _feature("disk.serial", "Disk serial numbers", (f"{DISK}.serial", bool)),
    *_caches(),
    _feature("disk.io", "Disk I/O mode", (f"{DISK}.io", bool)),
    _feature("disk.boot-order", "Boot order of disks", f"{DISK}.boot_order"),
    _feature("disk.shareable", "Disks shared by machines", (f"{DISK}.shareable", True)),
    _feature("disk.error-policy", "What a disk error does", (f"{DISK}.error_policy", bool)),
    _feature("disk.block-size", "Block size of a disk", f"{DISK}.block_size"),
    _feature(
        "disk.discard-granularity", "Discard granularity of a disk", f"{DISK}.block_size.custom.discard_granularity"
    ),
    _feature("disk.rotation-rate", "Rotation rate of a disk", f"{DISK}.disk.rotation_rate"),
    _feature("disk.pci-address", "PCI address of a disk", (f"{DISK}.disk.pci_address", bool)),
    _feature("disk.io-thread", "I/O thread of its own", (f"{DISK}.dedicated_io_thread", True)),
    _feature("disk.io-threads-policy", "I/O threads", ("domain.io_threads_policy", bool), "domain.io_threads"),
    _feature("disk.multiqueue", "Several queues a disk", (f"{DEVICES}.block_multi_queue", True)),
    _feature("disk.discard", "Discard unused blocks"),
    _feature("volume.container-disk", "Disk or tree from a container image", f"{VOLUME}.container_disk"),
    _feature(
        "volume.container-disk.further", "Further container images", Whole("volumes[].container_disk", _further_images)
    ),
    _feature("volume.empty-disk", "Empty scratch disk", f"{VOLUME}.empty_disk"),
    _feature("volume.host-disk", "Disk image of the host", f"{VOLUME}.host_disk"),
    _feature("volume.claim", "Persistent volume claim", f"{VOLUME}.persistent_volume_claim"),
    _feature("volume.data-volume", "DataVolume", f"{VOLUME}.data_volume"),
    _feature("volume.ephemeral", "Layer above a claim that goes with the machine", f"{VOLUME}.ephemeral"),
    _feature("volume.cloud-init", "cloud-init data", f"{VOLUME}.cloud_init_no_cloud"),
    _feature("volume.config-drive", "cloud-init data on a config drive", f"{VOLUME}.cloud_init_config_drive"),
    _feature("volume.config-map", "Files of a ConfigMap", f"{VOLUME}.config_map"),
    _feature("volume.secret", "Files of a Secret", f"{VOLUME}.secret"),
    _feature("volume.service-account", "Token of a service account", f"{VOLUME}.service_account"),
    _feature("volume.downward-api", "Files about the machine itself", f"{VOLUME}.downward_api"),
    _feature("volume.sysprep", "Answer files for Windows (sysprep)", f"{VOLUME}.sysprep"),
    _feature("filesystem.virtiofs", "Shared folders (virtiofs)", f"{DEVICES}.filesystems[].virtiofs"),
    _feature("network.pod", "The Pod's network", "networks[].pod"),
    _feature(
        "network.pod.cidr",
        "Addresses behind the Pod's own chosen",
        ("networks[].pod.vm_network_cidr", bool),
        ("networks[].pod.vm_ipv6_network_cidr", bool),
    ),
    _feature("network.multus", "Further networks (Multus)", "networks[].multus"),
    _feature("interface.masquerade", "Network address translation", f"{NIC}.masquerade"),
    _feature("interface.bridge", "Network interface on a bridge", f"{NIC}.bridge"),
    _feature("interface.passt", "Network interface through passt", f"{NIC}.passt_binding"),
    _feature("interface.sriov", "Network interface passed through (SR-IOV)", f"{NIC}.sriov"),
    *_nics(),
    _feature(
        "interface.multiqueue", "Several queues a network interface", (f"{DEVICES}.network_interface_multiqueue", True)
    ),
    _feature("interface.mac", "MAC address", (f"{NIC}.mac_address", bool)),
    _feature("interface.mtu", "MTU of a network interface"),
    _feature("interface.pci-address", "PCI address of a network interface", (f"{NIC}.pci_address", bool)),
    _feature("interface.acpi-index", "Network interface's name by ACPI index", f"{NIC}.acpi_index"),
    _feature("interface.boot-order", "Boot from the network", f"{NIC}.boot_order"),
    _feature("interface.dhcp-options", "DHCP options", f"{NIC}.dhcp_options"),
    _feature(
        "interface.ports",
        "Reach the guest's ports",
        f"{NIC}.ports[].port",
        *(f"{probe}.{way}" for probe in PROBES for way in ("http_get", "tcp_socket")),
    ),
    _feature("interface.link-down", "Network interface with its link down", (f"{NIC}.state", "down")),
    _feature("interface.absent", "Network interface kept out", (f"{NIC}.state", "absent")),
    _feature("console.none", "No serial console", (f"{DEVICES}.autoattach_serial_console", False)),
    _feature("rng", "Random number generator", f"{DEVICES}.rng"),
    _feature("watchdog.i6300esb", "Watchdog", f"{DEVICES}.watchdog.i6300esb"),
    _feature("watchdog.diag288", "Watchdog of s390x", f"{DEVICES}.watchdog.diag288"),
    _feature("input.tablet", "Pointer device", (f"{DEVICES}.inputs[].type", "tablet")),
    _feature("input.bus.virtio", "virtio pointer device", (f"{DEVICES}.inputs[].bus", "virtio")),
    _feature("graphics", "Graphics card", (f"{DEVICES}.autoattach_graphics_device", True)),
    _feature("video.type", "Type of graphics card", (f"{DEVICES}.video.type", bool)),
    _feature("video.qxl", "Graphics card qxl", (f"{DEVICES}.video.type", "qxl")),
    _feature("sound.ich9", "Sound card ich9", (f"{DEVICES}.sound", lambda card: card and card.model in (None, "ich9"))),
    _feature("sound.ac97", "Sound card ac97", (f"{DEVICES}.sound.model", "ac97")),
    _feature("balloon", "Memory balloon", (f"{DEVICES}.autoattach_mem_balloon", True)),
    _feature("tpm", "TPM", (f"{DEVICES}.tpm", enabled)),
    _feature("tpm.persistent", "TPM with its state kept", (f"{DEVICES}.tpm.persistent", True)),
    _feature("vsock", "Sockets between host and guest (vsock)", (f"{DEVICES}.autoattach_vsock", True)),
    _feature("panic", "Panic device", f"{DEVICES}.panic_devices[]"),
    _feature("panic.pvpanic", "Panic device pvpanic on the PCI bus", (f"{DEVICES}.panic_devices[].model", "pvpanic")),
    _feature("downward-metrics", "Host metrics in the guest", f"{DEVICES}.downward_metrics"),
    _feature("downward-metrics.disk", "Host metrics on a disk", f"{VOLUME}.downward_metrics"),
    _feature("virtio-transitional", "virtio for old guests", (f"{DEVICES}.use_virtio_transitional", True)),
    _feature("iommu", "IOMMU in the guest"),
    _feature("usb-redirection", "USB devices of the client", f"{DEVICES}.client_passthrough"),
    _feature("passthrough.pci", "PCI or USB devices of the host", f"{DEVICES}.host_devices[]"),
    _feature("passthrough.gpu", "GPUs and mediated devices of the host", f"{DEVICES}.gpus[]"),
    _feature("launch-security.sev", "AMD SEV", f"{SECURITY}.sev"),
    _feature("launch-security.snp", "AMD SEV-SNP", f"{SECURITY}.snp"),
    _feature("launch-security.tdx", "Intel TDX", f"{SECURITY}.tdx"),
)
"""Every feature, in the order in which tables show them."""

BY_ID = {feature.id: feature for feature in FEATURES}

_PLACES = Places((feature.id, feature.places) for feature in FEATURES)


def asked(spec: VirtualMachineInstanceSpec) -> list[tuple[Feature, list[str]]]:
    """Return what ``spec`` asks for and by which fields: features in order, then numbers and combinations."""
    found = _PLACES.find(spec)
    features = [(feature, found[feature.id]) for feature in FEATURES if feature.id in found]
    for one in COUNTABLES:
        count, fields = one.count(spec)
        if count > one.everywhere:
            features.append((Counted(one.id, f"{count} {one.title}", count=count), fields))
    features += [(Combined(one.id, one.title), fields) for one in COMBINATIONS if (fields := one.find(spec))]
    return features
