"""The plan by which a domain of an endpoint is taken over: pure, from XML."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.adoption import Mapping, NetworkMapping, PoolMapping
from polyvisor.adoption.takeover import Takeover, take_over
from polyvisor.api.adopted import digest, unchanged
from polyvisor.drivers import registry

UUID = "4dea22b3-1d52-48f3-a516-782e98ab3fa0"
DISK = "<disk type='file' device='disk'><source file='{}'/><target dev='{}' bus='virtio'/></disk>"
CARD = "<interface type='network'><mac address='52:54:00:00:00:01'/><source network='{}'/></interface>"
OWNER = "<owner xmlns='http://hypervisor.kubevirt.io/owner/1.0' cluster='another' machine='1'/>"
POOLS = {"images": "/srv/images", "backup": "/srv/images/backup"}


def domain(*devices: str, memory: int = 256, more: str = "") -> str:
    return (
        f"<domain type='qemu'><name>web</name><uuid>{UUID}</uuid>{more}<memory unit='MiB'>{memory}</memory>"
        "<vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/><apic/></features>"
        f"<devices>{''.join(devices)}<serial type='pty'/></devices></domain>"
    )


def plan(defined: str, running: str = "", active: bool = False, **mapped: Any) -> Takeover:
    given: dict[str, Any] = {"storage": (PoolMapping("fast", "images", "/srv/images"),), "pools": POOLS, **mapped}
    return take_over(running or defined, defined, active, Mapping(endpoint="rack4", **given), registry())


def test_the_machine_names_endpoint_and_domain_and_outlives_its_object() -> None:
    found = plan(domain(DISK.format("/srv/images/a.qcow2", "vda")), active=True)
    assert found.conversion.causes == ()
    machine = found.conversion.machine
    assert machine["metadata"]["annotations"]["hypervisor.kubevirt.io/deletion-policy"] == "Retain"
    template = machine["spec"]["template"]
    assert template["metadata"]["annotations"] == {"hypervisor.kubevirt.io/adopt": UUID}
    assert template["spec"]["hypervisor"]["endpoint"] == "rack4"
    assert (machine["spec"]["runStrategy"], found.run_strategy) == ("Halted", "RerunOnFailure")
    assert plan(domain()).run_strategy == "Halted"


def test_what_polyvisor_cannot_do_on_endpoints_stays_in_the_domain() -> None:
    found = plan(domain("<graphics type='vnc'/><video><model type='vga'/></video>"))
    assert found.conversion.causes == ()
    assert found.conversion.kept["devices/graphics/@type"] == "vnc"


def test_what_the_running_guest_has_otherwise_ends_with_it() -> None:
    one, two = (DISK.format(f"/srv/images/{name}", dev) for name, dev in (("a.img", "vda"), ("b.img", "vdb")))
    found = plan(domain(one, memory=512), domain(one, two), active=True)
    assert len(found.conversion.volumes) == 1
    passing = {note.path: (note.value, note.text) for note in found.passing}
    assert passing["spec.domain.memory.guest"][0] == "256Mi"
    assert passing["spec.domain.memory.guest"][1].endswith("from the next start on it is 512Mi")
    assert passing["spec.domain.devices.disks[vdb].name"] == (
        "vdb",
        "until the guest ends; from the next start on it is (absent)",
    )
    assert plan(domain(one), domain(one), active=True).passing == ()


def test_the_mark_of_an_owner_is_no_setting_of_the_domain() -> None:
    found = plan(domain(more=f"<metadata>{OWNER}</metadata>"))
    assert not [path for path in found.conversion.kept if path.startswith("metadata")]
    kept = plan(domain(more=f"<metadata>{OWNER}<app xmlns='urn:x' a='1'/></metadata>")).conversion.kept
    assert [value for path, value in kept.items() if path.startswith("metadata")] == ["1"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/srv/images/backup/a.img", "polyvisor endpoint map rack4 --storage backup=backup"),
        ("/srv/elsewhere/a.img", "(virsh pool-create-as elsewhere dir --target /srv/elsewhere) and map it: polyvisor"),
        ("/dev/sdb", "define one that has it"),
        ("a.img", "write its whole path"),
    ],
)
def test_a_disk_in_no_mapped_pool_is_refused_with_what_to_do(path: str, said: str) -> None:
    (cause,) = plan(domain(DISK.format(path, "vda")), storage=()).conversion.causes
    assert said in cause


def test_a_pool_that_a_disk_names_is_mapped_by_a_command() -> None:
    disk = (
        "<disk type='volume' device='disk'><source pool='my pool' volume='a'/><target dev='vda' bus='virtio'/></disk>"
    )
    (cause,) = plan(domain(disk)).conversion.causes
    assert cause.endswith("map it: polyvisor endpoint map rack4 --storage 'my-pool=my pool'")


def test_a_network_is_mapped_by_a_command() -> None:
    (cause,) = plan(domain(CARD.format("lan"))).conversion.causes
    assert cause.endswith("map it: polyvisor endpoint map rack4 --network pod=lan")
    pod = (NetworkMapping("pod", "default"),)
    (cause,) = plan(domain(CARD.format("lan")), networks=pod).conversion.causes
    assert cause.endswith("map it: polyvisor endpoint map rack4 --network default/lan=lan")


def test_a_template_is_known_by_its_digest() -> None:
    spec = {"domain": {"memory": {"guest": "1Gi"}}}
    given = {"hypervisor.kubevirt.io/adopted-spec": digest({"spec": spec})}
    assert unchanged({"metadata": {"annotations": given}, "spec": {"domain": {"memory": {"guest": "1Gi"}}}})
    assert not unchanged({"metadata": {"annotations": given}, "spec": {"domain": {"memory": {"guest": "2Gi"}}}})
    assert not unchanged({"spec": spec})
