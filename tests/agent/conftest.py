"""Image archives built on the spot, and a driver that does nothing."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from polyvisor.agent.images.store import ImageStore
from polyvisor.agent.link import containers
from polyvisor.agent.live import render
from polyvisor.agent.storage.sources import Places
from polyvisor.drivers.base import Driver, LauncherPlan, ProbeResult, RootKind, Support, Verdict

if TYPE_CHECKING:
    from polyvisor.agent.process import Handler

    from .played_kubelet import Kubelet

Make = Callable[..., dict[str, Any]]
Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, data: bytes = b"", **fields: Any) -> Member:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def folder(name: str, mode: int = 0o755) -> Member:
    return member(name, type=tarfile.DIRTYPE, mode=mode)


def link(name: str, target: str) -> Member:
    return member(name, type=tarfile.SYMTYPE, linkname=target)


def hard(name: str, target: str) -> Member:
    return member(name, type=tarfile.LNKTYPE, linkname=target)


def tar(*members: Member) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Layout:
    """Writes an OCI layout."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifests: list[dict[str, Any]] = []
        (root / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)

    def blob(self, data: bytes) -> dict[str, Any]:
        name = digest(data)
        (self.root / "blobs" / "sha256" / name.removeprefix("sha256:")).write_bytes(data)
        return {"digest": name, "size": len(data)}

    def image(self, name: str, *layers: bytes, architecture: str = "", compress: bool = True) -> dict[str, Any]:
        config = {"architecture": architecture} if architecture else {}
        manifest = {
            "schemaVersion": 2,
            "config": self.blob(json.dumps(config).encode())
            | {"mediaType": "application/vnd.oci.image.config.v1+json"},
            "layers": [self.blob(gzip.compress(layer) if compress else layer) for layer in layers],
        }
        entry = self.blob(json.dumps(manifest).encode()) | {"mediaType": "application/vnd.oci.image.manifest.v1+json"}
        entry["annotations"] = {"org.opencontainers.image.ref.name": name}
        self.add(entry)
        return entry

    def add(self, entry: dict[str, Any]) -> None:
        self.manifests.append(entry)
        (self.root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": self.manifests}))


class PlainDriver(Driver):
    name = "plain"
    title = "Plain"
    virt_types = ("plain",)
    disk_formats = ("qcow2", "raw")

    @property
    def features(self) -> Mapping[str, Support]:
        found = {"tpm": Support(Verdict.CONDITIONAL, "made up", "the node has one", node_fact=True)}
        return found | {"lifecycle.statistics": Support(Verdict.SUPPORTED, "made up")}

    def probe(self, scratch: Path) -> ProbeResult:
        return ProbeResult(available=True, version="1.2", virt_types=("plain",), facts=frozenset({"tpm"}))

    def launcher(self, folder: Path, scratch: Path | None = None) -> LauncherPlan:
        return LauncherPlan(uri="test:///default")

    def defaults(self, spec: Any) -> None:
        """Nothing to fill in."""

    def adapt(self, domain: Any, spec: Any) -> None:
        """Nothing to change."""


class RawDriver(PlainDriver):
    disk_formats = ("raw",)


class ForeignDriver(PlainDriver):
    disk_formats = ("vmdk",)


class TreeDriver(PlainDriver):
    root = RootKind.FILESYSTEM
    disk_formats = ("raw",)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "images")


@pytest.fixture
def store(tmp_path: Path, layout: Layout) -> ImageStore:
    return ImageStore(tmp_path / "images", tmp_path / "cache")


@pytest.fixture
def make_vmi() -> Callable[..., dict[str, Any]]:
    def make(*volumes: dict[str, Any], **spec: Any) -> dict[str, Any]:
        disks = [{"name": volume["name"]} for volume in volumes]
        domain = {"devices": {"disks": disks}} | spec.pop("domain", {})
        return {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": {"name": "one", "namespace": "default", "uid": "11111111-2222-3333-4444-555555555555"},
            "spec": {"domain": domain, "volumes": list(volumes), **spec},
        }

    return make


@pytest.fixture
def places(tmp_path: Path, store: ImageStore) -> Places:
    return Places(store, tmp_path / "volumes", tmp_path / "hostdisks")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "l" / "abc"
    home.mkdir(parents=True)
    return home


@pytest.fixture
async def kubelet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kubelet]:
    from .played_kubelet import playing
    from .test_machines import xml

    monkeypatch.setattr(render, "domain_xml", xml)
    monkeypatch.setattr(containers, "PROC", tmp_path / "proc")
    async with playing(tmp_path) as found:
        yield found


@pytest.fixture
async def handler(kubelet: Kubelet, tmp_path: Path) -> AsyncIterator[Handler]:
    from .played_kubelet import handling

    async with handling(kubelet, tmp_path) as found:
        yield found
