"""The catalogue, and how a table is read; what is asked of every driver's table is in the kit."""

from __future__ import annotations

import pytest

from polyvisor.drivers import registry
from polyvisor.drivers.base import ProbeResult
from polyvisor.drivers.features import BY_ID, FEATURES
from polyvisor.drivers.verdict import shown, unsupported
from tests.drivers.kit import machine


def test_catalogue_has_each_feature_once() -> None:
    assert len(FEATURES) == len(BY_ID) >= 100


@pytest.mark.parametrize(
    ("domain", "name", "path"),
    [
        ({"cpu": {"sockets": 2}}, "cpu.topology", "spec.domain.cpu.sockets"),
        ({"cpu": {"threads": 2}}, "cpu.threads", "spec.domain.cpu.threads"),
        ({"cpu": {"model": "Nehalem"}}, "cpu.model.named", "spec.domain.cpu.model"),
        ({"firmware": {"bootloader": {"efi": {}}}}, "firmware.efi.secure-boot", "spec.domain.firmware.bootloader.efi"),
        ({"devices": {"rng": {}}}, "rng", "spec.domain.devices.rng"),
        (
            {"devices": {"disks": [{"name": "a"}, {"name": "b", "cdrom": {"bus": "scsi"}}]}},
            "disk.bus.scsi",
            "spec.domain.devices.disks[1].cdrom.bus",
        ),
        (
            {"devices": {"interfaces": [{"name": "a", "model": "e1000"}]}},
            "interface.model.e1000",
            "spec.domain.devices.interfaces[0].model",
        ),
    ],
)
def test_containers_lack_what_machines_have(domain: dict[str, object], name: str, path: str) -> None:
    lxc, qemu = registry().get("lxc"), registry().get("qemu")
    assert lxc
    assert qemu
    spec = machine(lxc, domain).spec
    assert (name, path) in [(feature.id, field) for feature, field, _ in unsupported(lxc, spec)]
    assert unsupported(qemu, spec) == []


def test_a_condition_on_the_virt_type_is_judged_once_it_is_known() -> None:
    qemu = registry().get("qemu")
    assert qemu
    spec = machine(qemu, {"cpu": {"model": "host-passthrough"}}).spec
    assert unsupported(qemu, spec) == unsupported(qemu, spec, "kvm") == []
    assert [feature.id for feature, _, _ in unsupported(qemu, spec, "qemu")] == ["cpu.model.host-passthrough"]


def test_a_node_shows_what_its_versions_and_the_probe_allow() -> None:
    qemu = registry().get("qemu")
    assert qemu
    facts = frozenset({"firmware.efi"})
    old = ProbeResult(True, version="7.2.22", libvirt_version="9.0.0", facts=facts)
    assert shown(qemu, old) == facts
    new = ProbeResult(True, version="8.0.0", libvirt_version="9.10.0", facts=facts)
    assert shown(qemu, new) == facts | {"interface.model.igb", "panic.pvpanic"}
