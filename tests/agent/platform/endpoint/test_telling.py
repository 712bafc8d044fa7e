"""What is said of machines on endpoints, and what their domains name on the host."""

from __future__ import annotations

from typing import Any

import pytest
from lxml import etree

from polyvisor.agent.errors import AgentError
from polyvisor.agent.platform.endpoint import rendering, telling
from polyvisor.agent.platform.endpoint.host_node import architecture_of, probed
from polyvisor.agent.platform.endpoint.inventory import HostInfo, domain_of
from polyvisor.agent.platform.endpoint.plan import Observed
from polyvisor.api import Obj
from polyvisor.domain import DiskSource, HostPath
from polyvisor.drivers import registry

UID = "0b6f3c1e-0000-4000-8000-000000000001"
CAPABILITIES = """
<capabilities><host><cpu><arch>x86_64</arch></cpu></host>
<guest><os_type>hvm</os_type><arch name='x86_64'><domain type='qemu'/>{more}</arch></guest></capabilities>
"""


def machine(networks: list[Obj] | None = None, **status: Any) -> Obj:
    networks = [{"name": "default", "pod": {}}] if networks is None else networks
    interfaces = [{"name": one["name"], "masquerade": {}} for one in networks]
    domain: Obj = {"devices": {"interfaces": interfaces}, "memory": {"guest": "64Mi"}}
    spec = {"domain": domain, "networks": networks}
    metadata = {"name": "web", "namespace": "shop", "uid": UID}
    return {"metadata": metadata, "spec": spec, "status": {"hypervisor": {"virtType": "qemu"}, **status}}


def endpoint(*networks: Obj) -> Obj:
    return {"metadata": {"name": "rack4"}, "spec": {"networks": list(networks)}}


def test_an_address_outside_of_the_mapping_is_nobodys() -> None:
    mac = "02:00:00:00:00:01"
    new: Obj = {"interfaces": [{"name": "default", "mac": mac}]}
    told = [{"mac": mac.upper(), "addresses": ["169.254.169.254", "10.20.0.7", "not one", "fd00::1"]}]
    assert telling.addressed(new, machine(), endpoint({"name": "pod", "network": "n", "cidrs": ["10.20.0.0/16"]}), told)
    assert new["interfaces"][0]["ipAddresses"] == ["10.20.0.7"]
    other: Obj = {"interfaces": [{"name": "default", "mac": mac}]}
    assert telling.addressed(other, machine(), endpoint({"name": "pod", "network": "n"}), told) == ""
    assert "ipAddress" not in other["interfaces"][0]


def test_a_machine_whose_host_is_away_is_neither_running_nor_over() -> None:
    before = machine(phase="Running", conditions=[{"type": "Ready", "status": "True"}])
    new = telling.away(before, "rack4", "no route to host")
    assert new["phase"] == "Running"
    ready = next(one for one in new["conditions"] if one["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("Unknown", "EndpointUnreachable")
    assert "no route to host" in ready["message"]
    again = telling.away({**before, "status": new}, "rack4", "no route to host")
    assert again == new  # since when, does not change
    over = machine(phase="Succeeded")
    assert telling.away(over, "rack4", "no route") == over["status"]


def test_an_interface_keeps_its_address_as_long_as_the_machine_its_uuid() -> None:
    mapped = endpoint({"name": "pod", "network": "lan"}, {"name": "shop/dmz", "network": "br1"})
    networks = [{"name": "a", "pod": {}}, {"name": "b", "multus": {"networkName": "dmz"}}]
    found = rendering.networks_of(machine(networks), mapped, ["lan"])
    assert [(one.name, one.bridge) for one in found.values()] == [("lan", False), ("br1", True)]
    assert found == rendering.networks_of(machine(networks), mapped, ["lan"])
    assert found["a"].mac != found["b"].mac
    assert found["a"].mac.startswith("02:")
    with pytest.raises(AgentError, match="endpoint rack4 maps no network 'shop/dmz'"):
        rendering.networks_of(machine(networks), endpoint({"name": "pod", "network": "lan"}), [])


def test_a_domain_names_places_of_the_host_alone_and_bears_its_mark() -> None:
    driver = registry().get("qemu")
    assert driver is not None
    vmi = machine([])
    vmi["spec"]["domain"]["devices"]["disks"] = [{"name": "root", "disk": {}}]
    places = rendering.Places({"root": DiskSource(HostPath("/pool/a.qcow2"), "qcow2")})
    root = etree.fromstring(rendering.domain_xml(vmi, driver, places, "ours", suffix=True))
    assert root.findtext("name") == f"shop_web-{UID[:8]}"
    assert [one.get("file") for one in root.iterfind("devices/disk/source")] == ["/pool/a.qcow2"]
    assert root.find("devices/channel/source[@mode='bind']") is not None
    assert root.xpath("devices/channel/source/@path | devices/graphics/listen/@socket") == []
    owner = root.find("metadata/{http://hypervisor.kubevirt.io/owner/1.0}owner")
    assert owner is not None
    assert (owner.get("cluster"), owner.get("machine")) == ("ours", UID)
    listed = domain_of({"uuid": root.findtext("uuid"), "mark": etree.tostring(owner, encoding="unicode")})
    assert listed is not None
    assert (listed.owner, listed.machine, listed.adopted) == ("ours", UID, False)


@pytest.mark.parametrize(("more", "offered"), [("", ("qemu",)), ("<domain type='kvm'/>", ("kvm", "qemu"))])
def test_a_host_shows_the_kinds_of_guests_that_libvirt_has_there(more: str, offered: tuple[str, ...]) -> None:
    driver = registry().get("qemu")
    assert driver is not None
    seen = Observed("qemu", host=HostInfo(libvirt_version="9.0.0", capabilities=CAPABILITIES.format(more=more)))
    assert probed(driver, seen).virt_types == offered
    assert architecture_of(seen.host.capabilities if seen.host else "") == "x86_64"


@pytest.mark.parametrize("text", ["", "no XML", "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>"])
def test_capabilities_that_cannot_be_read_say_nothing(text: str) -> None:
    assert architecture_of(text) == ""


def test_xen_tells_its_kinds_by_the_words_of_capabilities() -> None:
    driver = registry().get("xen")
    assert driver is not None
    text = "<capabilities><guest><os_type>xen</os_type></guest><guest><os_type>hvm</os_type></guest></capabilities>"
    assert driver.offered(etree.fromstring(text)) == ("xen", "xenpv")
