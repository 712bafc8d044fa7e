"""The project's own lints: what they find, and what they let stand."""

from __future__ import annotations

import pytest
from checks import named


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("import libvirt_qemu", "qemu"),
        ("class QemuDriver(Driver):", "Qemu"),
        ('ACCELERATORS = ("kvm", "vhost-net")', "kvm"),
        ("isKVM = True", "KVM"),
        ("# as with xen-4.17", "xen"),
        ("for each change of a branch", ""),
        ('run("qemu-img", "info")', ""),
        ('way = {"qemuGuestAgent": {}}', ""),
        ('devices=("/dev/kvm",)', ""),
        ("vzip = unzip(archive)", ""),
    ],
)
def test_a_hypervisors_name_is_found_as_a_part_of_any_word(line: str, word: str) -> None:
    assert named(line) == word


def test_a_field_of_the_api_may_be_named_where_it_is_listed() -> None:
    assert named("if wanted.kvm and wanted.qemu:", {"kvm"}) == "qemu"
