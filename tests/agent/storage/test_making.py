from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.errors import AgentError, ImageError, UnsafePath
from polyvisor.agent.files import iso, tools
from polyvisor.agent.images.store import ImageStore
from polyvisor.agent.storage import disks, making
from polyvisor.agent.storage.making import Inputs, prepare
from polyvisor.agent.storage.prepared import Prepared, used_trees
from polyvisor.agent.storage.sources import Places
from tests.needs import need_root, unmet

from ..conftest import ForeignDriver, Layout, Make, PlainDriver, RawDriver, TreeDriver, folder, link, member, tar

CLAIM = {"spec": {"resources": {"requests": {"storage": "1Mi"}}}}


def qcow2(**changes: Any) -> bytes:
    values: dict[str, Any] = {"backing": 0, "incompatible": 0, "version": 3, **changes}
    head = struct.pack(">4sIQIIQ", b"QFI\xfb", values["version"], values["backing"], 0, 16, 1 << 20)
    return head.ljust(72, b"\0") + struct.pack(">Q", values["incompatible"]) + bytes(1000)


def test_overlay_leaves_the_image_alone(layout: Layout, places: Places, home: Path, make_vmi: Make) -> None:
    layout.image("a:1", tar(member("disk/d.img", b"x" * 4096)))
    vmi = make_vmi({"name": "root", "containerDisk": {"image": "a:1"}})
    file = prepare(vmi, PlainDriver(), home, places, Inputs()).files["root"]
    assert (file.path, file.format) == (home / "disks" / "root.qcow2", "qcow2")
    said = subprocess.run(["qemu-img", "info", file.path], capture_output=True, text=True, check=True).stdout
    assert f"backing file: {places.images.disk('a:1')}" in said
    assert sorted(entry.name for entry in home.iterdir()) == ["disks"]


def test_sizes_are_those_that_the_guest_sees(
    layout: Layout, places: Places, home: Path, make_vmi: Make, tmp_path: Path
) -> None:
    image = tmp_path / "d.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "7M"], check=True)
    layout.image("a:1", tar(member("disk/d.qcow2", image.read_bytes())))
    vmi = make_vmi(
        {"name": "root", "containerDisk": {"image": "a:1"}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "c"}},
    )
    # A guest owns this one: what looks like a header is its data.
    (disks.claim_folder(places.volumes, "default", "c") / "disk.img").write_bytes(qcow2().ljust(4096, b"x"))
    assert prepare(vmi, PlainDriver(), home, places, Inputs(claims={"c": CLAIM})).sizes == {
        "root": 7 << 20,
        "data": 1 << 20,
    }


def test_trees_in_use_are_known(layout: Layout, places: Places, home: Path, make_vmi: Make) -> None:
    layout.image("a:1", tar(member("disk/d.img", b"raw" * 400)))
    layout.image("k:1", tar(member("boot/vmlinuz", b"kernel")))
    boot = {"firmware": {"kernelBoot": {"container": {"image": "k:1", "kernelPath": "/boot/vmlinuz"}}}}
    vmi = make_vmi({"name": "root", "containerDisk": {"image": "a:1"}}, domain=boot)
    made = prepare(vmi, PlainDriver(), home, places, Inputs())
    assert set(made.trees) == {places.images.tree("a:1").name, places.images.tree("k:1").name}
    (home.parent / "empty").mkdir()
    assert used_trees(home.parent, home.parent) == set(made.trees)


def test_raw_only_gets_a_copy(layout: Layout, places: Places, home: Path, make_vmi: Make, tmp_path: Path) -> None:
    image = tmp_path / "q.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "1M"], check=True)
    layout.image("a:1", tar(member("disk/d.img", b"x" * 4096)))
    layout.image("q:1", tar(member("disk/d.qcow2", image.read_bytes())))
    volumes = [{"name": name, "containerDisk": {"image": f"{name}:1"}} for name in ("a", "q")]
    files = prepare(make_vmi(*volumes), RawDriver(), home, places, Inputs()).files
    assert files["a"].path.read_bytes() == b"x" * 4096 + bytes((1 << 20) - 4096)
    assert files["q"].format == "raw"
    assert files["q"].path.stat().st_size == 1 << 20


def test_hypervisor_with_a_format_of_its_own_gets_it(
    layout: Layout, places: Places, home: Path, make_vmi: Make
) -> None:
    layout.image("a:1", tar(member("disk/d.img", b"x" * 4096)))
    volumes = [{"name": "a", "containerDisk": {"image": "a:1"}}, {"name": "e", "emptyDisk": {"capacity": "1Mi"}}]
    files = prepare(make_vmi(*volumes), ForeignDriver(), home, places, Inputs()).files
    for name in ("a", "e"):
        assert files[name] == disks.DiskFile(home / "disks" / f"{name}.vmdk", "vmdk")
        said = subprocess.run(["qemu-img", "info", files[name].path], capture_output=True, text=True, check=True).stdout
        assert "file format: vmdk" in said
    back = home / "back.img"
    subprocess.run(["qemu-img", "convert", "-f", "vmdk", "-O", "raw", files["a"].path, back], check=True)
    assert back.read_bytes() == b"x" * 4096


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (qcow2(backing=104), "backing file"),
        (qcow2(incompatible=4), "another file"),
        (qcow2(version=1), "version 1"),
        (b"QFI\xfb", "cut off"),
        (b"KDMV" + bytes(600), "version 0"),
        (b"# Disk DescriptorFile", "names its data in other files"),
        (b"QED\0" + bytes(600), "a QED image"),
        (b"\x1f\x8b" + bytes(600), "a gzip archive"),
        (b"", "empty file"),
    ],
)
def test_images_that_reach_out_are_refused(
    layout: Layout, places: Places, home: Path, make_vmi: Make, content: bytes, message: str
) -> None:
    layout.image("a:1", tar(member("disk/d.img", content)))
    with pytest.raises(ImageError, match=message) as caught:
        prepare(make_vmi({"name": "a", "containerDisk": {"image": "a:1"}}), PlainDriver(), home, places, Inputs())
    assert not caught.value.retry
    assert not list(home.iterdir())


def test_prepared_machine_keeps_its_disks(places: Places, home: Path, make_vmi: Make) -> None:
    vmi = make_vmi({"name": "data", "emptyDisk": {"capacity": "1Mi"}})
    first = prepare(vmi, RawDriver(), home, places, Inputs())
    first.files["data"].path.write_bytes(b"written by the guest")
    again = prepare(vmi, RawDriver(), home, places, Inputs())
    assert again == first == Prepared.from_json(first.to_json())
    assert first.files["data"].path.read_bytes() == b"written by the guest"


def test_interrupted_preparation_starts_anew(places: Places, home: Path, make_vmi: Make) -> None:
    (home / "disks.tmp").mkdir()
    (home / "disks.tmp" / "data.img").write_bytes(b"half")
    prepared = prepare(
        make_vmi({"name": "data", "emptyDisk": {"capacity": "1Mi"}}), RawDriver(), home, places, Inputs()
    )
    assert prepared.files["data"].path.stat().st_size == 1 << 20
    assert prepared.files["data"].path.stat().st_blocks == 0


def test_failure_leaves_nothing(places: Places, home: Path, make_vmi: Make) -> None:
    vmi = make_vmi({"name": "a", "emptyDisk": {"capacity": "1Mi"}}, {"name": "b", "containerDisk": {"image": "none"}})
    with pytest.raises(ImageError):
        prepare(vmi, PlainDriver(), home, places, Inputs())
    assert not list(home.iterdir())


@pytest.mark.parametrize("name", ["../evil", "a/b", "..", "a\0b"])
def test_volume_name_is_no_path(places: Places, home: Path, make_vmi: Make, name: str) -> None:
    with pytest.raises(AgentError):
        prepare(make_vmi({"name": name, "emptyDisk": {"capacity": "1Mi"}}), RawDriver(), home, places, Inputs())


# -- host disks and claims ---------------------------------------------------------------------------------------------


def host(places: Places, path: str, kind: str = "DiskOrCreate", size: int = 1 << 20) -> disks.DiskFile:
    return disks.host_disk(places.hostdisks, path, kind, size)


def test_host_disk_is_created_once(places: Places) -> None:
    file = host(places, "a/b/one.img")
    assert file.format == "raw"
    assert file.path.stat().st_size == 1 << 20
    file.path.write_bytes(b"kept")
    assert host(places, str(places.hostdisks / "a/b/one.img")).path.read_bytes() == b"kept"
    with pytest.raises(AgentError, match="no such file"):
        host(places, "missing.img", "Disk")
    with pytest.raises(AgentError, match="capacity"):
        host(places, "missing.img", size=0)
    assert sorted(entry.name for entry in (places.hostdisks / "a/b").iterdir()) == ["one.img"]


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x.img", "a/../../x.img", "", "/", "link/x.img", "file", "fifo", "dir"]
)
def test_host_disk_stays_below_its_root(places: Places, tmp_path: Path, path: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.img").write_bytes(b"secret")
    places.hostdisks.mkdir()
    (places.hostdisks / "link").symlink_to(tmp_path / "outside")
    (places.hostdisks / "file").symlink_to(tmp_path / "outside" / "x.img")
    (places.hostdisks / "dir").mkdir()
    os.mkfifo(places.hostdisks / "fifo")
    with pytest.raises(AgentError):
        host(places, path)
    assert (tmp_path / "outside" / "x.img").read_bytes() == b"secret"
    assert len(list((tmp_path / "outside").iterdir())) == 1


def test_claim_disk_and_folder(places: Places, home: Path, make_vmi: Make) -> None:
    vmi = make_vmi({"name": "data", "persistentVolumeClaim": {"claimName": "c"}})
    with pytest.raises(AgentError, match="default/c does not exist") as caught:
        prepare(vmi, PlainDriver(), home, places, Inputs())
    assert caught.value.reason == "FailedPvcNotFound"
    file = prepare(vmi, PlainDriver(), home, places, Inputs(claims={"c": CLAIM})).files["data"]
    assert file == disks.DiskFile(places.volumes / "default" / "c" / "disk.img", "raw")
    assert file.path.stat().st_size == 1 << 20


def test_claim_written_by_a_guest_cannot_lead_out(places: Places, tmp_path: Path) -> None:
    folder_ = disks.claim_folder(places.volumes, "default", "c")
    (folder_ / "disk.img").symlink_to("/etc/shadow")
    with pytest.raises(UnsafePath):
        disks.claim_disk(places.volumes, "default", "c", 1 << 20)
    (folder_ / "disk.img").unlink()
    (folder_ / "disk.img").write_bytes(qcow2(backing=104))
    assert disks.claim_disk(places.volumes, "default", "c", 1 << 20).format == "raw"
    (places.volumes / "link").symlink_to(tmp_path)
    with pytest.raises(UnsafePath):
        disks.claim_folder(places.volumes, "link", "c")
    with pytest.raises(UnsafePath):
        disks.claim_folder(places.volumes, "..", "c")


# -- root filesystem and cloud-init ------------------------------------------------------------------------------------

SEED = {"name": "init", "cloudInitNoCloud": {"userData": "#cloud-config\npassword: s3cret\n"}}


def test_root_filesystem_is_a_private_copy(layout: Layout, places: Places, home: Path, make_vmi: Make) -> None:
    layout.image("t:1", tar(member("sbin/init", b"#!", mode=0o755), folder("var"), link("var/lib", "/etc")))
    vmi = make_vmi({"name": "root", "containerDisk": {"image": "t:1"}}, SEED)
    prepared = prepare(vmi, TreeDriver(), home, places, Inputs())
    assert prepared.root == home / "disks" / "root"
    assert (prepared.root / "sbin/init").stat().st_mode & 0o777 == 0o755
    seed = prepared.root / "etc/cloud/seed/nocloud"  # /var/lib is a link to /etc: the image's own, never the host's
    assert "s3cret" in (seed / "user-data").read_text()
    assert (seed / "user-data").stat().st_mode & 0o777 == 0o600
    assert '"instance-id": "one.default"' in (seed / "meta-data").read_text()
    assert not Path("/etc/cloud/seed/nocloud").exists()
    assert (prepared.root / "etc/hostname").read_text() == "one\n"
    assert (prepared.root / "etc/hostname").stat().st_mode & 0o777 == 0o644
    (prepared.root / "sbin/init").write_text("changed")
    assert (places.images.tree("t:1") / "sbin/init").read_bytes() == b"#!"


def test_root_filesystem_gets_the_host_name_and_never_the_host(
    layout: Layout, places: Places, home: Path, make_vmi: Make, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_text("untouched")
    layout.image("t:1", tar(folder("etc"), link("etc/hostname", str(outside))))
    vmi = make_vmi({"name": "root", "containerDisk": {"image": "t:1"}}, hostname="given")
    prepared = prepare(vmi, TreeDriver(), home, places, Inputs())
    assert prepared.root
    assert (prepared.root / "etc/hostname").read_text() == "given\n"
    assert outside.read_text() == "untouched"


def test_root_without_any_source(places: Places, home: Path, make_vmi: Make) -> None:
    with pytest.raises(AgentError, match="needs a root filesystem"):
        prepare(make_vmi(SEED), TreeDriver(), home, places, Inputs())


def test_discs_end_with_a_full_block(tmp_path: Path) -> None:
    for sectors in range(1, 5):
        disc = iso.write_iso({"a": b"x" * 2048 * sectors}, tmp_path, f"disc{sectors}", "a", "trying")
        assert disc.stat().st_size % 4096 == 0


def test_seed_image(places: Places, home: Path, make_vmi: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[Any] = []
    run = tools.run
    monkeypatch.setattr(tools, "run", lambda arguments, *rest: (commands.append(arguments), run(arguments, *rest)))
    source = {"secretRef": {"name": "s"}, "networkDataBase64": "bmV0OiAx"}
    secrets = {"s": {"userdata": b"password: s3cret"}}
    prepared = prepare(
        make_vmi({"name": "init", "cloudInitNoCloud": source}), PlainDriver(), home, places, Inputs(secrets=secrets)
    )
    image = prepared.files["init"].path.read_bytes()
    assert image[0x8000:0x8006] == b"\x01CD001"
    assert b"cidata" in image[0x8000:0x8800]
    assert b"password: s3cret" in image
    assert b"net: 1" in image
    assert "s3cret" not in str(commands)
    assert prepared.files["init"].path.stat().st_mode & 0o777 == 0o600
    assert sorted(entry.name for entry in (home / "disks").iterdir()) == ["init.iso", "prepared.json"]
    assert "s3cret" not in (home / "disks" / "prepared.json").read_text()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"secretRef": {"name": "gone"}}, "Secret gone .* does not exist"),
        ({"secretRef": {"name": "empty"}}, "Secret empty .* no key userdata"),
        ({"userDataBase64": "s3cret!"}, "not valid base64"),
    ],
)
def test_bad_seed_is_told_without_the_secret(
    places: Places, home: Path, make_vmi: Make, source: dict[str, Any], message: str
) -> None:
    vmi = make_vmi({"name": "init", "cloudInitNoCloud": source})
    with pytest.raises(AgentError, match=message) as caught:
        prepare(vmi, PlainDriver(), home, places, Inputs(secrets={"empty": {"other": b"s3cret"}}))
    assert "s3cret" not in str(caught.value)
    assert not list(home.iterdir())


def test_an_ephemeral_layer_leaves_the_claim_alone(places: Places, home: Path, make_vmi: Make) -> None:
    base = disks.claim_disk(places.volumes, "default", "c", 1 << 20).path
    base.write_bytes(qcow2(backing=104).ljust(1 << 20, b"\0"))  # a guest wrote a header there: it stays raw
    vmi = make_vmi({"name": "v", "ephemeral": {"persistentVolumeClaim": {"claimName": "c"}}})
    file = prepare(vmi, PlainDriver(), home, places, Inputs(claims={"c": CLAIM})).files["v"]
    assert file == disks.DiskFile(home / "disks" / "v.qcow2", "qcow2")
    said = subprocess.run(["qemu-img", "info", file.path], capture_output=True, text=True, check=True).stdout
    assert f"backing file: {base}" in said
    assert "backing file format: raw" in said


def test_a_data_volume_is_its_claim(places: Places, home: Path, make_vmi: Make) -> None:
    vmi = make_vmi({"name": "v", "dataVolume": {"name": "c"}})
    file = prepare(vmi, PlainDriver(), home, places, Inputs(claims={"c": CLAIM})).files["v"]
    assert file.path == places.volumes / "default" / "c" / "disk.img"


def test_kernel_boot(layout: Layout, places: Places, home: Path, make_vmi: Make) -> None:
    layout.image("k:1", tar(member("boot/vmlinuz-6", b"K"), link("boot/vmlinuz", "vmlinuz-6"), member("boot/i", b"I")))
    container = {"image": "k:1", "kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/i"}
    vmi = make_vmi(domain={"firmware": {"kernelBoot": {"container": container}}})
    prepared = prepare(vmi, PlainDriver(), home, places, Inputs())
    assert prepared.kernel is not None
    assert prepared.kernel.read_bytes() == b"K"
    assert prepared.initrd is not None
    assert prepared.initrd.read_bytes() == b"I"


# -- a full disk -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    need_root()
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", mount], check=False, capture_output=True)
    if done.returncode:
        unmet(f"a tmpfs cannot be mounted: {done.stderr.decode()}")
    yield mount
    subprocess.run(["umount", mount], check=True)


def test_full_disk_while_unpacking(layout: Layout, small: Path, make_vmi: Make, tmp_path: Path) -> None:
    layout.image("big:1", tar(member("disk/d.img", os.urandom(1 << 20))))
    store = ImageStore(layout.root, small / "cache")
    with pytest.raises(AgentError, match=r"no space left while unpacking image big:1: \d+ MiB free"):
        store.disk("big:1")
    assert not list((small / "cache").iterdir())


def test_full_disk_while_copying(layout: Layout, small: Path, make_vmi: Make, places: Places) -> None:
    layout.image("big:1", tar(member("disk/d.img", os.urandom(1 << 20))))
    with pytest.raises(AgentError, match="no space left while copying the disk image of big:1") as caught:
        prepare(make_vmi({"name": "a", "containerDisk": {"image": "big:1"}}), RawDriver(), small, places, Inputs())
    assert caught.value.retry
    assert not list(small.iterdir())


def test_missing_program_names_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AgentError, match="qemu-img is not installed"):
        tools.run(["qemu-img", "--version"], "trying", tmp_path)


def test_needed_names() -> None:
    source = {"secretRef": {"name": "a"}, "networkDataSecretRef": {"name": "b"}}
    vmi = {
        "spec": {"volumes": [{"name": "x", "cloudInitNoCloud": source}, {"persistentVolumeClaim": {"claimName": "c"}}]}
    }
    assert making.needed(vmi) == ({"a", "b"}, {"c"}, set())
    assert making.needed(make_needy()) == ({"s", "p"}, {"d", "e"}, {"m"})


def make_needy() -> dict[str, Any]:
    sources: list[dict[str, Any]] = [
        {"configMap": {"name": "m"}},
        {"secret": {"secretName": "s"}},
        {"sysprep": {"secret": {"name": "p"}}},
        {"dataVolume": {"name": "d"}},
        {"ephemeral": {"persistentVolumeClaim": {"claimName": "e"}}},
    ]
    return {"spec": {"volumes": sources}}


def test_a_lun_is_no_file(places: Places, home: Path, make_vmi: Make) -> None:
    vmi = make_vmi({"name": "data", "persistentVolumeClaim": {"claimName": "c"}})
    vmi["spec"]["domain"]["devices"]["disks"] = [{"name": "data", "lun": {}}]
    with pytest.raises(AgentError, match=r"volume data is a lun.*with volumeMode: Block"):
        prepare(vmi, PlainDriver(), home, places, Inputs(claims={"c": CLAIM}))


@pytest.mark.parametrize("names", [("root",), ("root", "data")])
def test_a_block_device_is_no_folder(places: Places, home: Path, make_vmi: Make, names: tuple[str, ...]) -> None:
    """Neither for a root filesystem nor for another folder of a container."""
    claims = {name: {"spec": {**CLAIM["spec"], "volumeMode": "Filesystem"}} for name in names}
    claims[names[-1]]["spec"]["volumeMode"] = "Block"
    vmi = make_vmi(*({"name": name, "persistentVolumeClaim": {"claimName": name}} for name in names))
    with pytest.raises(AgentError, match=f"volume {names[-1]}: claim {names[-1]} is a block device") as caught:
        prepare(vmi, TreeDriver(), home, places, Inputs(claims=claims))
    assert not caught.value.retry
