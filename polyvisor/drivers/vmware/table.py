"""What libvirt's VMware driver does with each feature, as read in its source (9.0.0; 11.3.0 does the same).

What a machine looks like is decided where its VMX file is written; here stands what the driver does with ``vmrun``.
"""

from __future__ import annotations

from polyvisor.drivers.answers import Table, below, no, when, yes
from polyvisor.drivers.vmx import COMMON, ETHERNET

DRIVER = "libvirt 9.0.0 src/vmware/vmware_driver.c"
CONF = "libvirt 9.0.0 src/vmware/vmware_conf.c"
NO_CALLBACK = f"{DRIVER} vmwareHypervisorDriver (the operation is not in its table)"

LIFECYCLE: Table = {
    **yes(f"{DRIVER} vmwareStartVM (vmrun start)", "lifecycle.start"),
    **yes(f"{DRIVER} vmwareStopVM (vmrun stop soft; the guest needs VMware Tools)", "lifecycle.shutdown"),
    **no(
        f"{DRIVER} vmwareDomainDestroy (the same vmrun stop soft)",
        "libvirt asks the guest where it should switch it off; switch it off in VMware's window",
        "lifecycle.destroy",
    ),
    **when(
        f"{DRIVER} vmwareDomainSuspend (vmplayer does not support libvirt suspend)",
        "VMware Workstation has it, VMware Player does not",
        "lifecycle.pause",
        node_fact=True,
    ),
    **yes(f"{DRIVER} vmwareDomainReboot (vmrun reset soft; the guest needs VMware Tools)", "lifecycle.reboot"),
    **yes(f"{CONF} vmwareLoadDomains (vmrun list: machines are processes of their own)", "lifecycle.adopt"),
    **no(
        f"{DRIVER} vmwareDomainCreateWithFlags (takes no flags)", "a machine starts running", "lifecycle.start-paused"
    ),
    **no(f"{DRIVER} vmwareDomainGetInfo (cpuTime is 0)", "libvirt's VMware driver reads none", "lifecycle.statistics"),
    **no(
        NO_CALLBACK,
        "libvirt's VMware driver does not have it",
        "lifecycle.reset",
        "lifecycle.events",
        "lifecycle.console",
        "lifecycle.vnc",
        "lifecycle.screenshot",
        "lifecycle.save",
        "lifecycle.memory-dump",
        "lifecycle.live-migration",
        "lifecycle.snapshot",
        "lifecycle.guest-agent",
        *below("lifecycle.hotplug"),
    ),
    **no("libvirt 9.0.0 src/vmx/vmx.c virVMXFormatConfig", "libvirt would drop it", "lifecycle.reboot-policy"),
}

FEATURES: Table = {
    **yes(
        "https://libvirt.org/drvvmware.html (virtual machines of a hypervisor)", "isolation.kernel", "isolation.users"
    ),
    **yes("https://libvirt.org/uri.html (a connection alone)", "isolation.launcher"),
    **COMMON,
    **LIFECYCLE,
    **no(
        f"{DRIVER} vmwareDomainDefParserConfig (no choice of firmware)",
        "libvirt's VMware driver writes machines with a BIOS",
        *below("firmware.efi"),
    ),
    **no(
        f"{CONF} vmwareVmxPath (the folder follows from the first hard disk)",
        "libvirt puts the machine's own file beside its first hard disk; add a volume with containerDisk",
        "boot.without-root",
    ),
    **yes(f"{CONF} vmwareVmxPath (the VMX file stands beside the first disk)", "volume.container-disk"),
    **yes(
        "libvirt 9.0.0 src/vmx/vmx.c virVMXFormatDisk",
        "volume.container-disk.further",
        "volume.empty-disk",
        "volume.cloud-init",
        "volume.config-drive",
        "volume.config-map",
        "volume.secret",
        "volume.downward-api",
        "volume.sysprep",
    ),
    **no(
        "libvirt 9.0.0 src/vmx/vmx.c virVMXFormatDisk",
        "a kubelet hands out the token, and this hypervisor's nodes have none",
        "volume.service-account",
    ),
    **no(
        "libvirt 9.0.0 src/vmx/vmx.c virVMXFormatDisk",
        "these volumes are raw images in this release and VMware wants vmdk; use a containerDisk",
        "volume.host-disk",
        "volume.claim",
        "volume.data-volume",
        "volume.ephemeral",
    ),
    **yes(f"{ETHERNET} (type user: VMware's NAT)", "network.pod", "interface.masquerade"),
    **yes(f"{ETHERNET} (virtualDev)", "interface.model.e1000", "interface.model.pcnet"),
    **no(
        f"{DRIVER} vmwareDomainDefineXMLFlags (hardware version 7; the card came with version 8)",
        "the machines that libvirt writes are too old for this card; use e1000",
        "interface.model.e1000e",
    ),
    **no(
        f"{ETHERNET} (model)",
        "VMware has no such card; use e1000, or name none for vmxnet3",
        *(f"interface.model.{name}" for name in ("virtio", "igb", "ne2k_pci", "rtl8139")),
    ),
    **yes(f"{ETHERNET} (address)", "interface.mac"),
    **no(
        ETHERNET,
        "only the Pod's network with address translation is there in this release",
        "network.multus",
        "network.pod.cidr",
        "interface.bridge",
        "interface.passt",
        "interface.sriov",
        "interface.dhcp-options",
        "interface.ports",
        "interface.absent",
    ),
}
