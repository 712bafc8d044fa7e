"""What becomes of 24 images from the web, as ``tests/cases/images-from-the-web`` asks for them: all at once."""

from __future__ import annotations

import gzip
import lzma
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from polyvisor.agent.files.iso import write_iso
from polyvisor.api.resources import DATAVOLUMES

from ..conftest import member, tar
from ..imports.test_datavolumes import Importer, importer  # noqa: F401, a fixture
from ..web_server import Answer, Web, web

Obj = dict[str, Any]
FOLDER = Path(__file__).resolve().parents[2] / "cases" / "images-from-the-web"
ASKED = FOLDER / "input.yaml"
RIGHT: dict[str, Obj] = yaml.safe_load((FOLDER / "outcomes.yaml").read_text())
REFUSED = "ftp"
"""The one that admission does not take."""
HOST = "http://127.0.0.1:8099"
MIB = 1 << 20


def content(size: int, filled: int = 65536) -> bytes:
    """Return a raw disk that has a boot sector, and bytes that do not compress."""
    sector = b"\xeb\x3c\x90".ljust(510, b"\0") + b"\x55\xaa"
    return (sector + Random("disk").randbytes(filled)).ljust(size, b"\0")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("images")

    def image(name: str, raw: bytes, kind: str, *more: str) -> bytes:
        (folder / "raw").write_bytes(raw)
        subprocess.run(
            ["qemu-img", "convert", "-f", "raw", "-O", kind, *more, folder / "raw", folder / name], check=True
        )
        return (folder / name).read_bytes()

    base = content(8 * MIB)
    small = image("small", base, "qcow2")
    (folder / "base").write_bytes(base)
    for name, options in (("overlay", ("-b", folder / "base", "-F", "raw")), ("big", ("20G",))):
        size = () if name == "overlay" else options
        backing = options if name == "overlay" else ()
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, folder / name, *size], check=True)
    page = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>" + b"<p>text</p>" * 500 + b"</body></html>"
    film = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + Random("film").randbytes(200_000)
    disc = write_iso({"a-file": b"of the disc"}, folder, "cd", "DISC", "making a disc").read_bytes()
    return {
        "small.qcow2": small,
        "small.qcow2.xz": lzma.compress(small),
        "small.qcow2.gz": gzip.compress(small),
        "base.raw": base,
        "base.raw.xz": lzma.compress(base),
        "overlay.qcow2": (folder / "overlay").read_bytes(),
        "big.qcow2": (folder / "big").read_bytes(),
        "film.qcow2": film,
        "t.tar.gz": gzip.compress(tar(member("disk.img", base))),
        "trunc2.qcow2": image("whole", content(8 * MIB, 6_400_000), "qcow2")[:3_000_000],
        "trunc.raw.gz": gzip.compress(content(8 * MIB, 6_400_000))[:3_000_000],
        "v.vmdk": image("v", base, "vmdk"),
        "cd.iso": disc,
        "unaligned.raw": content(7_000_000),
        "page.html": page,
        "empty.img": b"",
    }


@pytest.fixture
def site(files: dict[str, bytes]) -> Iterator[Web]:
    with web() as server:
        moved = {"Location": server.url("/loop")}
        server.answers = {f"/{name}": Answer(body) for name, body in files.items()}
        server.answers["/loop"] = Answer(b"", 302, moved)
        server.answers["/auth"] = Answer(b"", 401, {"WWW-Authenticate": "Basic"})
        server.answers["/file"] = Answer(b"", 302, {"Location": "file:///etc/passwd"})
        for left in range(1, 6):
            onwards = f"/r/{left - 1}/small.qcow2" if left > 1 else "/small.qcow2"
            server.answers[f"/r/{left}/small.qcow2"] = Answer(b"", 302, {"Location": server.url(onwards)})
        yield server


async def test_what_becomes_of_each(importer: Importer, site: Web, files: dict[str, bytes]) -> None:  # noqa: F811
    asked = list(yaml.safe_load_all(ASKED.read_text().replace(HOST, site.url(""))))
    volumes = {volume["metadata"]["name"]: volume for volume in asked}
    assert volumes.keys() - {REFUSED} == RIGHT.keys()
    async with importer.agent_running():
        for name in RIGHT:
            volumes[name]["metadata"]["namespace"] = "default"
            await importer.client.create(DATAVOLUMES, volumes[name])
        for name, right in RIGHT.items():
            await importer.until(DATAVOLUMES, name, lambda one, right=right: _is(one, right))
    for name, raw in {
        "pvcstyle": files["base.raw"],
        "unaligned": files["unaligned.raw"],
        "iso": files["cd.iso"],
    }.items():
        disk = importer.disk(name)
        assert disk.startswith(raw)
        assert disk[len(raw) :].strip(b"\0") == b""
        assert len(disk) % MIB == 0


def _is(volume: Obj, right: Obj) -> bool:
    words = " ".join(str(one.get("message")) for one in volume["status"].get("conditions") or [])
    return volume["status"].get("phase") == right["phase"] and right.get("says", "") in words
