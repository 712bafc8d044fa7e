"""Networks, and the interfaces that join them.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from typing import Annotated

from polyvisor.api.base import Int32, Model, OneOf
from polyvisor.api.kubevirt.compute import ResourceRequirementsWithoutClaims


class ClaimRequest(Model):
    """``ClaimRequest`` of KubeVirt's API."""

    claim_name: str | None = None
    request_name: str | None = None


class DHCPPrivateOptions(Model):
    """``DHCPPrivateOptions`` of KubeVirt's API."""

    option: Int32
    value: str


class DHCPOptions(Model):
    """``DHCPOptions`` of KubeVirt's API."""

    boot_file_name: str | None = None
    ntp_servers: list[str] | None = None
    private_options: list[DHCPPrivateOptions] | None = None
    tftp_server_name: str | None = None


class DeprecatedInterfaceMacvtap(Model):
    """``DeprecatedInterfaceMacvtap`` of KubeVirt's API."""


class DeprecatedInterfacePasst(Model):
    """``DeprecatedInterfacePasst`` of KubeVirt's API."""


class DeprecatedInterfaceSlirp(Model):
    """``DeprecatedInterfaceSlirp`` of KubeVirt's API."""


class PluginBinding(Model):
    """``PluginBinding`` of KubeVirt's API."""

    name: str


class InterfaceBridge(Model):
    """``InterfaceBridge`` of KubeVirt's API."""


class InterfaceMasquerade(Model):
    """``InterfaceMasquerade`` of KubeVirt's API."""


class InterfacePasstBinding(Model):
    """``InterfacePasstBinding`` of KubeVirt's API."""


class PortRange(Model):
    """``PortRange`` of KubeVirt's API."""

    end: Int32
    protocol: str
    start: Int32


class Port(Model):
    """``Port`` of KubeVirt's API."""

    name: str | None = None
    port: Int32
    protocol: Annotated[str | None, OneOf("TCP", "UDP")] = None


class InterfaceSRIOV(Model):
    """``InterfaceSRIOV`` of KubeVirt's API."""


class Interface(Model):
    """A network interface of a machine; the network of the same name is what it joins."""

    acpi_index: Int32 | None = None
    binding: PluginBinding | None = None
    boot_order: Int32 | None = None
    bridge: InterfaceBridge | None = None
    dhcp_options: DHCPOptions | None = None
    mac_address: str | None = None
    macvtap: DeprecatedInterfaceMacvtap | None = None
    masquerade: InterfaceMasquerade | None = None
    model: Annotated[str | None, OneOf("virtio", "e1000", "e1000e", "igb", "ne2k_pci", "pcnet", "rtl8139")] = None
    name: str
    passt: DeprecatedInterfacePasst | None = None
    passt_binding: InterfacePasstBinding | None = None
    pci_address: str | None = None
    port_ranges: list[PortRange] | None = None
    ports: list[Port] | None = None
    slirp: DeprecatedInterfaceSlirp | None = None
    sriov: InterfaceSRIOV | None = None
    state: Annotated[str | None, OneOf("up", "down", "absent")] = None
    tag: str | None = None


class InterfaceBindingMigration(Model):
    """``InterfaceBindingMigration`` of KubeVirt's API."""

    method: str | None = None


class InterfaceBindingPlugin(Model):
    """``InterfaceBindingPlugin`` of KubeVirt's API."""

    compute_resource_overhead: ResourceRequirementsWithoutClaims | None = None
    domain_attachment_type: str | None = None
    downward_api: str | None = None
    migration: InterfaceBindingMigration | None = None
    network_attachment_definition: str | None = None
    sidecar_image: str | None = None


class NetworkConfiguration(Model):
    """``NetworkConfiguration`` of KubeVirt's API."""

    binding: dict[str, InterfaceBindingPlugin] | None = None
    default_network_interface: str | None = None
    permit_bridge_interface_on_pod_network: bool | None = None
    permit_slirp_interface: bool | None = None


class MultusNetwork(Model):
    """``MultusNetwork`` of KubeVirt's API."""

    default: bool | None = None
    network_name: str


class PodNetwork(Model):
    """``PodNetwork`` of KubeVirt's API."""

    vm_ipv6_network_cidr: str | None = None
    vm_network_cidr: str | None = None


class Network(Model):
    """A network that an interface joins."""

    multus: MultusNetwork | None = None
    name: str
    pod: PodNetwork | None = None
    resource_claim: ClaimRequest | None = None


class VirtualMachineInstanceNetworkInterface(Model):
    """``VirtualMachineInstanceNetworkInterface`` of KubeVirt's API."""

    info_source: str | None = None
    interface_name: str | None = None
    ip_address: str | None = None
    ip_addresses: list[str] | None = None
    link_state: str | None = None
    mac: str | None = None
    name: str | None = None
    pod_interface_name: str | None = None
    queue_count: Int32 | None = None
