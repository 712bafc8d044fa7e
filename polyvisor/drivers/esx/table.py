"""What libvirt's ESX driver does with each feature, as read in its source (9.0.0; 11.3.0 does the same).

What a machine looks like is decided where its VMX file is written; here stands what the host is asked over its API.
"""

from __future__ import annotations

from polyvisor.drivers.answers import Table, below, no, yes
from polyvisor.drivers.vmx import COMMON, ETHERNET

DRIVER = "libvirt 9.0.0 src/esx/esx_driver.c"
STORAGE = "libvirt 9.0.0 src/esx/esx_storage_backend_vmfs.c"
NO_CALLBACK = f"{DRIVER} esxHypervisorDriver (the operation is not in its table)"
VMX = "libvirt 9.0.0 src/vmx/vmx.c"
VERSIONS = "libvirt 9.0.0 src/esx/esx_vi.c esxVI_ProductVersionToDefaultVirtualHWVersion"
LATER = "is not wired to ESX in this release"

LIFECYCLE: Table = {
    **yes(f"{DRIVER} esxDomainCreateWithFlags (PowerOnVM_Task)", "lifecycle.start"),
    **yes(f"{DRIVER} esxDomainShutdownFlags (ShutdownGuest; the guest needs VMware Tools)", "lifecycle.shutdown"),
    **yes(f"{DRIVER} esxDomainDestroyFlags (PowerOffVM_Task)", "lifecycle.destroy"),
    **yes(f"{DRIVER} esxDomainSuspend (SuspendVM_Task: memory goes to the datastore)", "lifecycle.pause"),
    **yes(f"{DRIVER} esxDomainReboot (RebootGuest; the guest needs VMware Tools)", "lifecycle.reboot"),
    **yes(f"{DRIVER} esxDomainLookupByUUID (machines live on the host, not in libvirt)", "lifecycle.adopt"),
    **no(f"{DRIVER} esxDomainCreateWithFlags (takes no flags)", "a machine starts running", "lifecycle.start-paused"),
    **no(f"{DRIVER} esxDomainGetInfo (time of CPUs alone)", f"reading them {LATER}", "lifecycle.statistics"),
    **no(f"{DRIVER} esxDomainScreenshot", f"taking a screenshot {LATER}", "lifecycle.screenshot"),
    **no(f"{DRIVER} esxDomainSnapshotCreateXML", f"taking snapshots {LATER}", "lifecycle.snapshot"),
    **no(f"{DRIVER} esxDomainMigratePerform (vMotion, by a vCenter)", f"vMotion {LATER}", "lifecycle.live-migration"),
    **no(f"{DRIVER} esxDomainSetVcpusFlags", f"changing a running machine {LATER}", "lifecycle.hotplug.cpu"),
    **no(f"{DRIVER} esxDomainSetMemoryFlags", f"changing a running machine {LATER}", "lifecycle.hotplug.memory"),
    **no(
        NO_CALLBACK,
        "libvirt's ESX driver does not have it",
        "lifecycle.reset",
        "lifecycle.events",
        "lifecycle.console",
        "lifecycle.vnc",
        "lifecycle.save",
        "lifecycle.memory-dump",
        "lifecycle.guest-agent",
        "lifecycle.hotplug.disk",
        "lifecycle.hotplug.interface",
        "lifecycle.hotplug.link",
    ),
    **no(f"{VMX} virVMXFormatConfig", "libvirt would drop it", "lifecycle.reboot-policy"),
}

FEATURES: Table = {
    **yes("https://libvirt.org/drvesx.html (virtual machines of a hypervisor)", "isolation.kernel", "isolation.users"),
    **yes("https://libvirt.org/uri.html (a connection alone)", "isolation.launcher"),
    **COMMON,
    **LIFECYCLE,
    **yes(f"{VMX} virVMXFormatConfig (firmware)", "firmware.efi"),
    **no(f"{VMX} virVMXFormatConfig (firmware, no more)", "libvirt would drop it", "firmware.efi.secure-boot"),
    **no(
        f"{VMX} virVMXFormatConfig (nvram is not written)",
        "the host decides where they are kept; libvirt has no say",
        "firmware.efi.persistent",
    ),
    **no(
        f"{DRIVER} esxDomainDefineXMLFlags (the datastore follows from the first hard disk)",
        "libvirt puts the machine's own file beside its first hard disk; add a disk",
        "boot.without-root",
    ),
    **yes(f"{DRIVER} esxFormatVMXFileName (an image in a datastore)", "volume.host-disk", "volume.claim"),
    **yes(
        f"{STORAGE} esxStorageVolCreateXML (CreateVirtualDisk_Task)",
        *("volume.empty-disk", "volume.container-disk", "volume.container-disk.further"),
    ),
    **no(
        f"{DRIVER} esxFormatVMXFileName (images in datastores)",
        "bringing it into a datastore comes later",
        "volume.cloud-init",
        "volume.data-volume",
        "volume.ephemeral",
        "volume.config-drive",
        "volume.config-map",
        "volume.secret",
        "volume.service-account",
        "volume.downward-api",
        "volume.sysprep",
    ),
    **no(
        f"{ETHERNET} (type bridge: a port group)",
        f"joining a port group {LATER}",
        *below("network"),
        "interface.masquerade",
        "interface.bridge",
        "interface.passt",
        "interface.sriov",
        "interface.dhcp-options",
        "interface.ports",
        "interface.absent",
        "interface.mac",
    ),
    **no(
        f"{ETHERNET} (virtualDev)",
        f"joining a port group {LATER}",
        "interface.model.e1000",
        "interface.model.e1000e",
        "interface.model.pcnet",
    ),
    **no(
        f"{ETHERNET} (model)",
        "VMware has no such card",
        *(f"interface.model.{name}" for name in ("virtio", "igb", "ne2k_pci", "rtl8139")),
    ),
}
