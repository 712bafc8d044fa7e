from __future__ import annotations

from typing import Any

import pytest

from polyvisor.domain.kept import kept_state, state_claim

EFI = {"firmware": {"bootloader": {"efi": {"persistent": True}}}}


@pytest.mark.parametrize(
    ("domain", "kept"),
    [
        ({}, []),
        ({"devices": {"tpm": {}}}, []),
        ({"devices": {"tpm": {"persistent": True}}}, ["tpm"]),
        ({"devices": {"tpm": {"persistent": True, "enabled": False}}}, []),
        (EFI, ["firmware"]),
        ({"devices": {"tpm": {"persistent": True}}, **EFI}, ["tpm", "firmware"]),
    ],
)
def test_what_is_kept(domain: dict[str, Any], kept: list[str]) -> None:
    vmi = {"metadata": {"name": "m"}, "spec": {"domain": domain}}
    assert kept_state(vmi["spec"]) == kept
    assert state_claim(vmi) == ("persistent-state-for-m" if kept else "")


def test_claims_of_machines_with_long_names_differ_and_fit() -> None:
    names = [state_claim({"metadata": {"name": "m" * 250 + end}, "spec": {"domain": EFI}}) for end in ("a", "b")]
    assert names[0] != names[1]
    assert all(len(name) <= 253 for name in names)
