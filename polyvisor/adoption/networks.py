"""Interfaces: each joins the network of the cluster that stands for the host's; MAC addresses are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvisor.adoption import remedies
from polyvisor.adoption.board import TRANSITIONAL
from polyvisor.adoption.draft import SPEC, Draft, free, label, number
from polyvisor.adoption.places import pci_address
from polyvisor.adoption.reading import path_of
from polyvisor.adoption.values import POD, NetworkMapping, Outcome
from polyvisor.api import Obj, VirtualMachineInstanceSpec
from polyvisor.domain.devices import CARD_ALIAS

if TYPE_CHECKING:
    from lxml.etree import _Element

MODELS = ("virtio", "e1000", "e1000e", "igb", "ne2k_pci", "pcnet", "rtl8139")
"""Those that KubeVirt's API names."""
USER = "user"
SOURCES = {
    "network": ("network",),
    "bridge": ("bridge",),
    "direct": ("dev",),
    "internal": ("name",),
    "vds": ("portgroupid", "switchid"),
}
"""Type of an interface -> the attributes of its ``<source>`` that name what it joins, first to last."""
PASSED = ("hostdev", "vdpa", "vhostuser")
DEFAULT = "default"


def read_interfaces(draft: Draft) -> None:
    """Read all interfaces, and what they join."""
    interfaces: list[Obj] = []
    networks: list[Obj] = []
    pod = ""
    for element in draft.domain.iterfind("devices/interface"):
        kind = element.get("type", "")
        path = f"{SPEC}.domain.devices.interfaces[{len(interfaces)}]"
        if kind in PASSED:
            why = "a device of the host is given to machines by sriov: {} and a network of that kind"
            draft.leave_out(element, why)
            continue
        found = _joined(draft, element, kind, bool(pod))
        if found is None:
            continue
        if found.name == POD and pod:
            message = f"a machine joins the Pod's network once, and {pod} does"
            draft.refuse(element, f"{message}; {remedies.of_second(draft.mapping, found.network)}")
            continue
        name = _name(element, found, {one["name"] for one in interfaces})
        interface: Obj = {"name": name}
        if found.name == POD:
            pod = path_of(element)
            interface["masquerade"] = {}
            networks.append({"name": name, "pod": {}})
        else:
            interface["bridge"] = {}
            networks.append({"name": name, "multus": {"networkName": found.name}})
        _hardware(draft, element, interface, path)
        interfaces.append(interface)
        draft.cards[name] = element
    if interfaces:
        draft.devices["interfaces"] = interfaces
        draft.spec["networks"] = networks
    else:
        draft.devices["autoattachPodInterface"] = False


def _joined(draft: Draft, element: _Element, kind: str, pod_taken: bool) -> NetworkMapping | None:
    """Return the mapping of what an interface joins; a network in user mode is the Pod's.

    A network of the host can stand for the Pod's and for another one, for machines that join it twice.
    """
    source, target = element.find("source"), element.find("target")
    names = [str(source.get(key)) for key in SOURCES.get(kind, ()) if source is not None and source.get(key)]
    if kind == "ethernet" and target is not None and target.get("dev"):
        names = [str(target.get("dev"))]
    fitting = [one for name in names for one in draft.mapping.networks if one.network == name]
    found = next((one for one in fitting if not (pod_taken and one.name == POD)), next(iter(fitting), None))
    if found is None and kind == USER:
        found = NetworkMapping(POD, USER)
    if found is None:
        mac = element.find("mac")
        which = f"interface {mac.get('address')}" if mac is not None else "an interface"
        if names:
            message = f"{which} joins {names[0]!r}, which no network of the cluster stands for"
            draft.refuse(element, f"{message}; {remedies.of_network(draft.mapping, names[0])}")
        else:
            types = ", ".join((*SOURCES, USER))
            draft.refuse(element, f"{which} is of type {kind!r} and names no network; supported: {types}")
        return None
    draft.settle(element, "type", Outcome.KEPT, f"network {found.name}")
    for key in SOURCES.get(kind, ()):
        draft.settle(source, key, Outcome.KEPT, f"network {found.name}")
    return found


def _name(element: _Element, found: NetworkMapping, taken: set[str]) -> str:
    alias = element.find("alias")
    given = alias.get("name", "") if alias is not None else ""
    name = given.removeprefix(CARD_ALIAS) if given.startswith(CARD_ALIAS) else ""
    if free(name, taken):
        return name
    return label(DEFAULT if found.name == POD else found.name.rpartition("/")[2], taken)


def _usual(draft: Draft) -> str:
    """Return the model of an interface that names none."""
    devices = {"interfaces": [{"name": DEFAULT}]}
    spec = VirtualMachineInstanceSpec.model_validate({"domain": {"devices": devices}})
    draft.driver.defaults(spec)
    interfaces = spec.domain.devices.interfaces
    return (interfaces[0].model if interfaces else None) or ""


def _hardware(draft: Draft, element: _Element, interface: Obj, path: str) -> None:
    mac, model, link = (element.find(tag) for tag in ("mac", "model", "link"))
    boot, acpi = element.find("boot"), element.find("acpi")
    if place := pci_address(draft, element):
        interface["pciAddress"] = place
    if mac is not None and mac.get("address"):
        interface["macAddress"] = str(mac.get("address")).lower()
        draft.settle(mac, "address", Outcome.KEPT, f"{path}.macAddress")
    given = model.get("type") if model is not None else None
    given = "virtio" if given == TRANSITIONAL else given  # which is said of the whole machine
    if given in MODELS:
        interface["model"] = given
        draft.settle(model, "type", Outcome.KEPT, f"{path}.model")
    elif given and given == _usual(draft):
        draft.settle(model, "type", Outcome.KEPT, "the driver's own")
    if link is not None and link.get("state") == "down":
        interface["state"] = "down"
        draft.settle(link, "state", Outcome.KEPT, f"{path}.state")
    if boot is not None and (order := number(boot.get("order"))):
        interface["bootOrder"] = order
        draft.settle(boot, "order", Outcome.KEPT, f"{path}.bootOrder")
    if acpi is not None and (index := number(acpi.get("index"))):
        interface["acpiIndex"] = index
        draft.settle(acpi, "index", Outcome.KEPT, f"{path}.acpiIndex")
