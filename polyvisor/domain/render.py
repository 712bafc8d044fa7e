"""The converter: one machine's object to libvirt's domain XML.

Three steps: the driver fills in what the user left open, shared blocks write what is the same everywhere, the driver
changes what is not. The order of the blocks is that of libvirt's own documentation. lxml is imported when a domain is
written, as much that stands near the XML is asked for without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvisor.domain import boot, compute, devices, disks
from polyvisor.domain.identity import domain_name, domain_uuid
from polyvisor.domain.ids import add_ids
from polyvisor.domain.xml import add

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.api import VirtualMachineInstance, VirtualMachineInstanceSpec
    from polyvisor.domain.context import DomainContext
    from polyvisor.domain.dialect import Dialect


def render(vmi: VirtualMachineInstance, driver: Dialect, context: DomainContext) -> str:
    """Return the domain XML of ``vmi`` for ``driver``; ``vmi`` itself is left as it is."""
    from lxml import etree

    spec = vmi.spec.model_copy(deep=True)
    driver.defaults(spec)
    domain = _domain(vmi, spec, driver, context)
    driver.adapt(domain, spec)
    etree.indent(domain)
    return etree.tostring(domain, encoding="unicode")


def _domain(
    vmi: VirtualMachineInstance, spec: VirtualMachineInstanceSpec, driver: Dialect, context: DomainContext
) -> _Element:
    from lxml import etree

    wanted = spec.domain
    uuid = domain_uuid(vmi)
    domain = etree.Element("domain", type=context.virt_type)
    add(domain, "name", driver.domain_name(domain_name(vmi), uuid))
    add(domain, "uuid", uuid)
    compute.add_memory(domain, wanted)
    compute.add_vcpus(domain, wanted, context.cpus)
    threads = disks.io_threads(wanted, context)
    if threads.count:
        add(domain, "iothreads", threads.count)
    compute.add_pins(domain, wanted, context.cpus)
    boot.add_sysinfo(domain, wanted, uuid)
    boot.add_os(domain, wanted, driver.os_types[0], context)
    if driver.own_ids:
        add_ids(domain, context.first_id)
    compute.add_features(domain, wanted)
    compute.add_cpu(domain, wanted)
    compute.add_clock(domain, wanted)
    reboot = "destroy" if wanted.reboot_policy == "Terminate" else "restart"
    for event, action in (("poweroff", "destroy"), ("reboot", reboot), ("crash", "destroy")):
        add(domain, f"on_{event}", action)
    board = add(domain, "devices")
    disks.add_disks(board, wanted, context, threads)
    disks.add_filesystems(board, context)
    devices.add_interfaces(board, wanted, context, driver.cards)
    devices.add_console(board, wanted)
    devices.add_agent_channel(board, context)
    devices.add_metrics_channel(board, wanted, context)
    devices.add_usb_slots(board, wanted, context)
    devices.add_inputs(board, wanted)
    devices.add_sound(board, wanted)
    devices.add_tpm(board, wanted)
    devices.add_graphics(board, wanted, context)
    devices.add_watchdog(board, wanted)
    devices.add_balloon(board, wanted)
    devices.add_random(board, wanted)
    devices.add_panic(board, wanted)
    devices.add_vsock(board, wanted, vmi.status.vsock_cid if vmi.status else None)
    return domain
