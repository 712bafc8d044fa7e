"""A machine's TPM and its UEFI variables are those of the machine, not of one run: seen by a guest across runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.feature_guest import TOP, Facts, facts, kernel_and_initrd

from .standalone import Standalone, standalone

pytestmark = pytest.mark.e2e

IMAGE = "localhost/polyvisor/feature-kernel:1"
CLAIM = "persistent-state-for-keeper"


def manifest() -> dict[str, Any]:
    container = {"image": IMAGE, "kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd.img"}
    domain = {
        "memory": {"guest": "256Mi"},
        "firmware": {
            "bootloader": {"efi": {"secureBoot": False, "persistent": True}},
            "kernelBoot": {"kernelArgs": "console=ttyS0 quiet", "container": container},
        },
        "devices": {"tpm": {"persistent": True}, "autoattachPodInterface": False, "autoattachGraphicsDevice": False},
    }
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "keeper"},
        "spec": {
            "runStrategy": "Always",
            "template": {
                "spec": {
                    "hypervisor": {"driver": "qemu"},
                    "terminationGracePeriodSeconds": 0,
                    "domain": domain,
                }
            },
        },
    }


@pytest.fixture(scope="module")
def home() -> Iterator[Standalone]:
    import sys

    sys.path.insert(0, str(TOP / "tools"))
    from oci_layout import Entry, Layout

    with standalone() as home:
        kernel, initrd = kernel_and_initrd()
        boot = {
            "boot/vmlinuz": Entry(0o644, kernel.read_bytes()),
            "boot/initrd.img": Entry(0o644, initrd.read_bytes()),
        }
        layout = Layout(home.folder / "images")
        layout.name({IMAGE: layout.image(boot, "test")}, "test")
        home.run("up")
        try:
            yield home
        finally:
            home.run("down")


def report(home: Standalone, besides: str = "") -> tuple[str, Facts]:
    """Return the uid of the machine's instance, another one than ``besides``, and what its guest reports."""
    deadline = time.monotonic() + 120
    said = b""
    while time.monotonic() < deadline:
        found = json.loads(home.run("get", "vmi", "-o", "json"))["items"]
        uid = found[0]["metadata"]["uid"] if found else ""
        if uid and uid != besides:
            said = home.run("logs", "keeper").encode() if found[0]["status"].get("phase") == "Running" else b""
            if b"FACT end" in said:
                return uid, facts(said)
        time.sleep(0.5)
    raise AssertionError(said[-2000:])


def test_tpm_and_variables_outlive_the_instance_and_go_with_the_machine(home: Standalone, tmp_path: Path) -> None:
    file = tmp_path / "keeper.json"
    file.write_text(json.dumps(manifest()))
    home.run("apply", "-f", file)
    uid, first = report(home)
    assert first["efi.kept"] == ""
    home.run("restart", "keeper")
    _, second = report(home, uid)
    assert second["efi.kept"] == "kept"
    starts = [int(facts["tpm.starts"].replace(" ", "")) for facts in (first, second)]
    assert starts[1] > starts[0]
    assert second["dmi.product_uuid"] == first["dmi.product_uuid"]
    claim = json.loads(home.run("get", "pvc", CLAIM, "-o", "json"))
    assert claim["status"]["phase"] == "Bound"
    folder = home.folder / "volumes" / "default" / CLAIM
    assert list(folder.glob("tpm/tpm2/*")), folder
    assert list(folder.glob("firmware/*_VARS.fd")), folder

    home.run("delete", "vm", "keeper")
    deadline = time.monotonic() + 60
    while folder.exists():
        assert time.monotonic() < deadline, home.run("get", "pvc,pod,vmi")
        time.sleep(0.2)
