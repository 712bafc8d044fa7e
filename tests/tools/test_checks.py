"""The project's own lints: what they find, and what they let stand."""

from __future__ import annotations

from pathlib import Path

import pytest
from checks import chains, named


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


def test_chains_through_plain_objects_only_grow_fewer(tmp_path: Path) -> None:
    folder = tmp_path / "polyvisor"
    folder.mkdir()
    (folder / "one.py").write_text('(x.get("a") or {}).get("b")\n((x.get("a") or {}).get("b") or {}).get("c")\n')
    assert list(chains(tmp_path, 3)) == []
    *words, place = chains(tmp_path, 2)
    assert words[0].startswith("3 chains of `or {}).get(`, and no more than 2 are accepted")
    assert place == "  polyvisor/one.py: 3"
    (left,) = chains(tmp_path, 4)
    assert left.endswith("set CHAINS = 3 in tools/checks.py")
