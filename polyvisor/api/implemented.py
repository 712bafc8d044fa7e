"""What of KubeVirt's API Polyvisor does today, as a positive table: type -> fields.

A field that is not listed is refused at admission with its path, never silently dropped. A field comes in here in the
same change that makes it work. ``ALL`` stands for every field that the type has. Kubernetes' own types and Polyvisor's
are not listed: they are implemented as far as they are modelled. The KubeVirt object is listed in full where another
operator's settings have no meaning here and can be carried without harm: what it configures is read field by field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

ALL: Final = frozenset({"*"})


def _fields(names: str) -> frozenset[str]:
    return frozenset(names.split())


IMPLEMENTED: Mapping[str, frozenset[str]] = {
    # -- machines ------------------------------------------------------------------------------------------------------
    "VirtualMachine": ALL,
    "VirtualMachineSpec": _fields("running runStrategy template"),
    "VirtualMachineInstance": ALL,
    "VirtualMachineInstanceTemplateSpec": ALL,
    "VirtualMachineInstanceSpec": _fields(
        "affinity domain evictionStrategy hostname hypervisor networks nodeSelector priorityClassName schedulerName"
        " terminationGracePeriodSeconds tolerations volumes"
    ),
    "DomainSpec": _fields("clock cpu devices features firmware machine memory resources"),
    # -- compute -------------------------------------------------------------------------------------------------------
    "CPU": _fields("cores model sockets threads"),
    "Memory": _fields("guest"),
    "ResourceRequirements": _fields("limits requests"),
    "Machine": ALL,
    "Features": _fields("acpi apic"),
    "FeatureState": ALL,
    "FeatureAPIC": ALL,
    "Clock": ALL,
    "ClockOffsetUTC": ALL,
    "Timer": ALL,
    "HPETTimer": ALL,
    "HypervTimer": ALL,
    "KVMTimer": ALL,
    "PITTimer": ALL,
    "RTCTimer": ALL,
    # -- firmware ------------------------------------------------------------------------------------------------------
    "Firmware": _fields("bootloader kernelBoot serial uuid"),
    "Bootloader": _fields("bios efi"),
    "BIOS": ALL,
    "EFI": _fields("secureBoot"),
    "KernelBoot": ALL,
    "KernelBootContainer": _fields("image imagePullPolicy initrdPath kernelPath"),
    # -- devices -------------------------------------------------------------------------------------------------------
    "Devices": _fields(
        "autoattachGraphicsDevice autoattachMemBalloon autoattachPodInterface autoattachSerialConsole disableHotplug"
        " disks inputs interfaces rng watchdog"
    ),
    "Rng": ALL,
    "Input": ALL,
    "Watchdog": ALL,
    "I6300ESBWatchdog": ALL,
    "Diag288Watchdog": ALL,
    "Disk": _fields("bootOrder cache cdrom disk io lun name serial"),
    "DiskTarget": _fields("bus readonly"),
    "CDRomTarget": _fields("bus readonly tray"),
    "LunTarget": _fields("bus readonly"),
    "Interface": _fields("bootOrder macAddress masquerade model name ports state"),
    "InterfaceMasquerade": ALL,
    "Port": ALL,
    # -- storage and networks ------------------------------------------------------------------------------------------
    "Volume": _fields("cloudInitNoCloud containerDisk emptyDisk hostDisk name persistentVolumeClaim"),
    "CloudInitNoCloudSource": ALL,
    "ContainerDiskSource": _fields("image imagePullPolicy path"),
    "EmptyDiskSource": ALL,
    "HostDisk": _fields("capacity path type"),
    "PersistentVolumeClaimVolumeSource": _fields("claimName"),
    "Network": _fields("name pod"),
    "PodNetwork": _fields(""),
    # -- configuration -------------------------------------------------------------------------------------------------
    "KubeVirt": ALL,
    "KubeVirtSpec": _fields("configuration"),
    "KubeVirtConfiguration": _fields("developerConfiguration evictionStrategy hypervisors"),
    "DeveloperConfiguration": _fields("useEmulation"),
    "HypervisorConfiguration": ALL,
}


def implements(type_name: str, field: str) -> bool:
    """Return whether ``field`` of KubeVirt's type ``type_name`` is implemented."""
    fields = IMPLEMENTED.get(type_name, frozenset())
    return fields is ALL or field in fields
