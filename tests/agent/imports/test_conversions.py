"""Disks that are not kept as their manifests name them: other hypervisors' formats, block devices."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from polyvisor.agent.storage.making import Inputs, prepare
from polyvisor.agent.storage.sources import Places

from ..conftest import ForeignDriver, Layout, Make, PlainDriver, RawDriver, member, tar

CLAIM = {"spec": {"resources": {"requests": {"storage": "1Mi"}}}}


@pytest.mark.parametrize("format_", ["vmdk", "vdi", "vhdx", "vpc"])
@pytest.mark.parametrize("driver", [PlainDriver(), RawDriver(), ForeignDriver()], ids=["qcow2", "raw", "vmdk"])
def test_an_image_of_another_hypervisor_is_converted(
    layout: Layout, places: Places, home: Path, make_vmi: Make, tmp_path: Path, format_: str, driver: PlainDriver
) -> None:
    raw, image, back = tmp_path / "raw", tmp_path / f"d.{format_}", tmp_path / "back"
    raw.write_bytes(b"x" * 4096 + bytes((1 << 20) - 4096))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", format_, raw, image], check=True)
    layout.image("a:1", tar(member(f"disk/d.{format_}", image.read_bytes())))
    told: list[str] = []
    vmi = make_vmi({"name": "root", "containerDisk": {"image": "a:1"}})
    file = prepare(vmi, driver, home, places, Inputs(), told.append).files["root"]
    assert file.format == driver.disk_formats[0]
    subprocess.run(["qemu-img", "convert", "-f", file.format, "-O", "raw", file.path, back], check=True)
    assert back.read_bytes()[: 1 << 20] == raw.read_bytes()
    said = subprocess.run(["qemu-img", "info", file.path], capture_output=True, text=True, check=True).stdout
    assert "backing file" not in said
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert f"converting the disk image of a:1, which is {format_}" in told


def test_a_block_device_is_a_disk_here_too(places: Places, home: Path, make_vmi: Make) -> None:
    vmi = make_vmi({"name": "data", "persistentVolumeClaim": {"claimName": "c"}})
    claim = {"spec": {**CLAIM["spec"], "volumeMode": "Block"}}
    file = prepare(vmi, PlainDriver(), home, places, Inputs(claims={"c": claim})).files["data"]
    assert (file.format, file.path.stat().st_size) == ("raw", 1 << 20)
