"""What of KubeVirt's API Polyvisor does today, as a positive table: type -> fields.

A field that is not listed is refused at admission with its path, never silently dropped. A field comes in here in the
same change that makes it work. ``ALL`` stands for every field that the type has. Kubernetes' own types and Polyvisor's
are not listed: they are implemented as far as they are modelled. The KubeVirt object is the exception: a setting of
KubeVirt's that has no meaning here is carried without harm, so it is kept and its writer is warned.
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
    "VirtualMachineSpec": _fields("dataVolumeTemplates instancetype preference running runStrategy template"),
    "InstancetypeMatcher": ALL,
    "PreferenceMatcher": ALL,
    "DataVolumeTemplateSpec": ALL,
    "VirtualMachineInstance": ALL,
    "VirtualMachineInstanceTemplateSpec": ALL,
    "VirtualMachineInstanceSpec": _fields(
        "accessCredentials affinity architecture dnsConfig dnsPolicy domain evictionStrategy hostname hypervisor"
        " livenessProbe networks nodeSelector priorityClassName readinessProbe schedulerName"
        " startStrategy subdomain terminationGracePeriodSeconds tolerations topologySpreadConstraints"
        " volumes"
    ),
    "DomainSpec": ALL,
    "AccessCredential": ALL,
    "AccessCredentialSecretSource": ALL,
    "SSHPublicKeyAccessCredential": ALL,
    "SSHPublicKeyAccessCredentialSource": ALL,
    "SSHPublicKeyAccessCredentialPropagationMethod": ALL,
    "ConfigDriveSSHPublicKeyAccessCredentialPropagation": ALL,
    "NoCloudSSHPublicKeyAccessCredentialPropagation": ALL,
    "QemuGuestAgentSSHPublicKeyAccessCredentialPropagation": ALL,
    "UserPasswordAccessCredential": ALL,
    "UserPasswordAccessCredentialSource": ALL,
    "UserPasswordAccessCredentialPropagationMethod": ALL,
    "QemuGuestAgentUserPasswordAccessCredentialPropagation": ALL,
    "Probe": ALL,
    "GuestAgentPing": ALL,
    "VirtualMachineInstanceReplicaSet": ALL,
    "VirtualMachineInstanceReplicaSetSpec": ALL,
    # -- pools ---------------------------------------------------------------------------------------------------------
    "VirtualMachinePool": ALL,
    "VirtualMachinePoolSpec": ALL,
    "VirtualMachineTemplateSpec": ALL,
    "VirtualMachinePoolNameGeneration": ALL,
    "VirtualMachinePoolScaleInStrategy": ALL,
    "VirtualMachinePoolOpportunisticScaleInStrategy": ALL,
    "VirtualMachinePoolProactiveScaleInStrategy": ALL,
    "VirtualMachinePoolSelectionPolicy": ALL,
    "VirtualMachinePoolSelectors": ALL,
    "VirtualMachinePoolUpdateStrategy": ALL,
    "VirtualMachinePoolProactiveUpdateStrategy": ALL,
    "VirtualMachinePoolAutohealingStrategy": ALL,
    # -- snapshots -----------------------------------------------------------------------------------------------------
    "VirtualMachineSnapshot": ALL,
    "VirtualMachineSnapshotSpec": ALL,
    "VirtualMachineSnapshotContent": ALL,
    "VirtualMachineSnapshotContentSpec": ALL,
    "SourceSpec": ALL,
    "SnapshotMachine": ALL,
    "SnapshotClaim": ALL,
    "VolumeBackup": ALL,
    "VirtualMachineRestore": ALL,
    "VirtualMachineRestoreSpec": ALL,
    "VolumeRestoreOverride": ALL,
    "VirtualMachineClone": ALL,
    "VirtualMachineCloneSpec": ALL,
    "VirtualMachineCloneTemplateFilters": ALL,
    "VirtualMachineInstanceMigration": ALL,
    "VirtualMachineInstanceMigrationSpec": _fields("addedNodeSelector vmiName"),
    # -- compute -------------------------------------------------------------------------------------------------------
    "CPU": ALL,
    "CPUFeature": ALL,
    "NUMA": ALL,
    "Realtime": ALL,
    "Memory": _fields("guest hugepages maxGuest reservedOverhead"),
    "ReservedOverhead": _fields("addedOverhead"),
    "Hugepages": ALL,
    "ResourceRequirements": _fields("limits overcommitGuestOverhead requests"),
    "Machine": ALL,
    "Features": ALL,
    "FeatureState": ALL,
    "FeatureAPIC": ALL,
    "FeatureKVM": ALL,
    "FeatureHyperv": ALL,
    "FeatureSpinlocks": ALL,
    "FeatureVendorID": ALL,
    "SyNICTimer": ALL,
    "TLBFlush": _fields("enabled"),
    "HyperVPassthrough": ALL,
    "Clock": ALL,
    "ClockOffsetUTC": ALL,
    "Timer": ALL,
    "HPETTimer": ALL,
    "HypervTimer": ALL,
    "KVMTimer": ALL,
    "PITTimer": ALL,
    "RTCTimer": ALL,
    # -- firmware ------------------------------------------------------------------------------------------------------
    "Firmware": ALL,
    "ACPI": ALL,
    "Chassis": ALL,
    "Bootloader": ALL,
    "BIOS": ALL,
    "EFI": ALL,
    "KernelBoot": ALL,
    "KernelBootContainer": ALL,
    # -- devices -------------------------------------------------------------------------------------------------------
    "Devices": _fields(
        "autoattachGraphicsDevice autoattachInputDevice autoattachMemBalloon autoattachPodInterface"
        " autoattachSerialConsole autoattachVSOCK blockMultiQueue clientPassthrough disableHotplug disks"
        " downwardMetrics filesystems gpus hostDevices inputs interfaces logSerialConsole networkInterfaceMultiqueue"
        " panicDevices rng sound tpm useVirtioTransitional video watchdog"
    ),
    "Filesystem": ALL,
    "GPU": _fields("deviceName name tag"),
    "HostDevice": _fields("deviceName name tag"),
    "PanicDevice": ALL,
    "SoundDevice": ALL,
    "TPMDevice": ALL,
    "VideoDevice": ALL,
    "DiskIOThreads": ALL,
    "LaunchSecurity": ALL,
    "SEV": ALL,
    "SEVPolicy": ALL,
    "Rng": ALL,
    "Input": ALL,
    "Watchdog": ALL,
    "I6300ESBWatchdog": ALL,
    "Diag288Watchdog": ALL,
    "Disk": _fields("blockSize bootOrder cache cdrom dedicatedIOThread disk errorPolicy io lun name serial shareable"),
    "BlockSize": ALL,
    "CustomBlockSize": ALL,
    "DiskTarget": ALL,
    "CDRomTarget": _fields("bus readonly tray"),
    "LunTarget": ALL,
    "Interface": _fields(
        "acpiIndex bootOrder bridge dhcpOptions macAddress masquerade model name passtBinding pciAddress ports sriov"
        " state"
    ),
    "DHCPOptions": ALL,
    "DHCPPrivateOptions": ALL,
    "InterfaceMasquerade": ALL,
    "Port": ALL,
    # -- storage and networks ------------------------------------------------------------------------------------------
    "Volume": _fields(
        "cloudInitConfigDrive cloudInitNoCloud configMap containerDisk dataVolume downwardAPI downwardMetrics"
        " emptyDisk ephemeral"
        " hostDisk memoryDump name persistentVolumeClaim secret serviceAccount sysprep"
    ),
    "MemoryDumpVolumeSource": _fields("claimName hotpluggable"),
    "CloudInitConfigDriveSource": ALL,
    "CloudInitNoCloudSource": ALL,
    "ConfigMapVolumeSource": ALL,
    "DataVolumeSource": ALL,
    "DataVolume": ALL,
    "CdiDataVolumeSpec": _fields("contentType pvc source storage"),
    "CdiDataVolumeSource": _fields("blank http pvc registry upload"),
    "CdiDataVolumeSourceHTTP": _fields("certConfigMap extraHeaders secretRef url"),
    "CdiDataVolumeSourcePVC": ALL,
    "CdiDataVolumeSourceRegistry": _fields("secretRef url"),
    "CdiStorageSpec": _fields("accessModes resources storageClassName volumeMode"),
    "CDIConfig": ALL,
    "CDIConfigSpec": _fields("insecureRegistries"),
    "DownwardAPIVolumeSource": ALL,
    "EphemeralVolumeSource": ALL,
    "SecretVolumeSource": ALL,
    "ServiceAccountVolumeSource": ALL,
    "SysprepSource": ALL,
    "ContainerDiskSource": ALL,
    "EmptyDiskSource": ALL,
    "HostDisk": _fields("capacity path type"),
    "PersistentVolumeClaimVolumeSource": _fields("claimName hotpluggable"),
    "AddVolumeOptions": ALL,
    "HotplugVolumeSource": ALL,
    "RemoveVolumeOptions": ALL,
    "Network": _fields("multus name pod"),
    "MultusNetwork": _fields("networkName"),
    "PodNetwork": ALL,
    # -- instance types and preferences --------------------------------------------------------------------------------
    "VirtualMachineInstancetype": ALL,
    "VirtualMachineClusterInstancetype": ALL,
    "VirtualMachineInstancetypeSpec": ALL,
    "CPUInstancetype": ALL,
    "MemoryInstancetype": ALL,
    "VirtualMachinePreference": ALL,
    "VirtualMachineClusterPreference": ALL,
    "VirtualMachinePreferenceSpec": _fields(
        "annotations clock cpu devices features firmware machine preferSpreadSocketToCoreRatio preferredArchitecture"
        " preferredHypervisor preferredLaunchSecurity preferredSubdomain preferredTerminationGracePeriodSeconds"
        " requirements volumes"
    ),
    "ClockPreferences": ALL,
    "ClockOffset": ALL,
    "CPUPreferences": ALL,
    "SpreadOptions": ALL,
    "DevicePreferences": _fields(
        "preferredAutoattachGraphicsDevice preferredAutoattachMemBalloon preferredAutoattachPodInterface"
        " preferredAutoattachSerialConsole preferredBlockMultiQueue preferredCdromBus preferredDisableHotplug"
        " preferredDiskBlockSize preferredDiskBus preferredDiskCache preferredDiskDedicatedIoThread preferredDiskIO"
        " preferredInputBus preferredInputType preferredInterfaceMasquerade preferredInterfaceModel preferredLunBus"
        " preferredNetworkInterfaceMultiQueue preferredPanicDeviceModel preferredRng preferredSoundModel preferredTPM"
        " preferredUseVirtioTransitional preferredVideoType"
    ),
    "FeaturePreferences": ALL,
    "FirmwarePreferences": ALL,
    "MachinePreferences": ALL,
    "VolumePreferences": ALL,
    "PreferenceRequirements": ALL,
    "CPUPreferenceRequirement": ALL,
    "MemoryPreferenceRequirement": ALL,
    # -- configuration -------------------------------------------------------------------------------------------------
    "KubeVirt": ALL,
    "KubeVirtSpec": _fields("configuration imagePullPolicy imagePullSecrets"),
    "KubeVirtConfiguration": _fields(
        "additionalGuestMemoryOverheadRatio architectureConfiguration autoCPULimitNamespaceLabelSelector cpuRequest"
        " defaultRuntimeClass developerConfiguration emulatedMachines evictionStrategy hypervisorDefaults hypervisors"
        " imagePullPolicy machineType migrations selinuxLauncherType supportContainerResources tlsConfiguration"
        " virtualMachineOptions vmStateStorageClass"
    ),
    "DeveloperConfiguration": _fields("cpuAllocationRatio featureGates useEmulation"),
    "ArchConfiguration": _fields("amd64 arm64 defaultArchitecture s390x"),
    "ArchSpecificConfiguration": _fields("emulatedMachines machineType"),
    "MigrationConfiguration": _fields(
        "allowAutoConverge bandwidthPerMigration completionTimeoutPerGiB maxDowntimeMs parallelMigrationsPerCluster"
        " parallelOutboundMigrationsPerNode progressTimeout"
    ),
    "TLSConfiguration": ALL,
    "VirtualMachineOptions": _fields("disableSerialConsoleLog"),
    "DisableSerialConsoleLog": ALL,
    "HypervisorConfiguration": ALL,
    "SupportContainerResources": ALL,
    "ResourceRequirementsWithoutClaims": ALL,
}

INSTEAD: Mapping[tuple[str, str], str] = {
    ("Interface", "binding"): "use masquerade: {}, or bridge: {} where the guest is to have the network's own address",
    ("Interface", "macvtap"): "KubeVirt has given it up as well; use bridge: {} with a multus network",
    ("Interface", "passt"): "KubeVirt has given it up as well; use masquerade: {}, which reaches as far",
    (
        "Interface",
        "slirp",
    ): "KubeVirt has given it up as well; use masquerade: {}, which is a network in user mode where a "
    "node has no other",
    ("VirtualMachineInstanceSpec", "utilityVolumes"): "KubeVirt's own backups fill it in, which are not implemented, "
    "and it cannot be given with a machine there either; attach a claim with `polyvisor addvolume`",
}
"""What to write in place of a field that is not implemented, where leaving it out leaves something open."""


NEVER: Mapping[tuple[str, str], str] = {
    (
        "Memory",
        "fileBacked",
    ): "it was proposed for KubeVirt and never taken in; a node with swap space backs the memory "
    "of all its machines by a disk",
}
"""Fields that neither KubeVirt nor Polyvisor has, and that manifests are seen with all the same: what to do instead."""


def implements(type_name: str, field: str) -> bool:
    """Return whether ``field`` of KubeVirt's type ``type_name`` is implemented."""
    fields = IMPLEMENTED.get(type_name, frozenset())
    return fields is ALL or field in fields
