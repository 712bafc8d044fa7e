"""Images out of a registry: by tag and digest, with credentials and without, cached, checked; and when it is down."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyvisor.agent.errors import AgentError, ImageError
from polyvisor.agent.images.registry import KEPT_SECONDS, SOURCE, Pull, Reference, Registries, credentials
from polyvisor.agent.images.store import ImageStore
from polyvisor.agent.storage.making import Inputs, needed, prepare
from polyvisor.agent.storage.sources import Places

from ..conftest import Layout, Make, PlainDriver, digest, link, member, tar
from ..registry_server import Registry, serving

DISK = member("disk/disk.img", b"raw" * 4096)
ALWAYS = Pull("Always")


@pytest.fixture
def remote(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "remote")


@pytest.fixture
def registry(remote: Layout) -> Iterator[Registry]:
    with serving(remote.root) as server:
        yield server


@pytest.fixture
def registries(tmp_path: Path, registry: Registry) -> Registries:
    return Registries(tmp_path / "pulled", lambda: {registry.host})


@pytest.fixture
def pulling(tmp_path: Path, registries: Registries) -> ImageStore:
    (tmp_path / "images").mkdir()
    return ImageStore(tmp_path / "images", tmp_path / "cache", registries)


def docker_config(host: str, password: str) -> bytes:
    auth = base64.b64encode(f"user:{password}".encode()).decode()
    return json.dumps({"auths": {host: {"auth": auth}}}).encode()


def test_a_tag_is_pulled_once(remote: Layout, registry: Registry, pulling: ImageStore, tmp_path: Path) -> None:
    remote.image("team/demo:1", tar(DISK))
    said: list[str] = []
    found = pulling.disk(f"{registry.host}/team/demo:1", progress=said.append)
    assert found.read_bytes() == b"raw" * 4096
    assert said[0] == f"pulling image {registry.host}/team/demo:1"
    pulled, asked = registry.pulls(), len(registry.asked)
    assert pulling.disk(f"{registry.host}/team/demo:1") == found
    assert len(registry.asked) == asked
    assert pulled == 2  # the layer and the configuration
    layout = next((tmp_path / "pulled").iterdir())
    assert len(list((layout / "blobs/sha256").iterdir())) == 2  # the layer is unpacked and was let go of


def test_always_looks_and_pulls_only_what_is_new(remote: Layout, registry: Registry, pulling: ImageStore) -> None:
    remote.image("demo:latest", tar(DISK))
    old = pulling.disk(f"{registry.host}/demo")
    pulled = registry.pulls()
    assert pulling.disk(f"{registry.host}/demo:latest") == old
    assert registry.pulls() == pulled
    remote.manifests.clear()
    remote.image("demo:latest", tar(member("disk/disk.img", b"new" * 4096)))
    assert pulling.disk(f"{registry.host}/demo", pull=Pull("IfNotPresent")) == old
    assert pulling.disk(f"{registry.host}/demo").read_bytes() == b"new" * 4096
    assert old.exists()


def test_a_digest_is_pulled(remote: Layout, registry: Registry, pulling: ImageStore) -> None:
    entry = remote.image("demo:1", tar(DISK))
    by_digest = f"{registry.host}/demo:whatever@{entry['digest']}"
    assert pulling.disk(by_digest).read_bytes() == b"raw" * 4096


def test_a_wrong_digest_is_refused(remote: Layout, registry: Registry, pulling: ImageStore, tmp_path: Path) -> None:
    entry = remote.image("demo:1", tar(DISK))
    registry.forged[entry["digest"]] = (remote.root / "blobs" / entry["digest"].replace(":", "/")).read_bytes() + b" "
    with pytest.raises(ImageError, match="the digest does not match; refused"):
        pulling.disk(f"{registry.host}/demo@{entry['digest']}")
    assert not list((tmp_path / "pulled").iterdir())


def test_a_forged_layer_is_refused(remote: Layout, registry: Registry, pulling: ImageStore, tmp_path: Path) -> None:
    layer = tar(DISK)
    remote.image("demo:1", layer, compress=False)
    registry.forged[digest(layer)] = tar(member("disk/disk.img", b"bad" * 4096))
    with pytest.raises(ImageError, match="the digest does not match; refused"):
        pulling.disk(f"{registry.host}/demo:1")
    assert not list((tmp_path / "pulled").iterdir())
    assert not list((tmp_path / "cache").glob("*"))


def test_never_and_no_such_image(remote: Layout, registry: Registry, pulling: ImageStore) -> None:
    remote.image("demo:1", tar(DISK))
    with pytest.raises(ImageError, match="imagePullPolicy is Never"):
        pulling.disk(f"{registry.host}/demo:1", pull=Pull("Never"))
    assert registry.asked == []
    with pytest.raises(ImageError, match="the registry has no such image") as caught:
        pulling.disk(f"{registry.host}/demo:2")
    assert caught.value.retry


def test_credentials(remote: Layout, registry: Registry, pulling: ImageStore, tmp_path: Path) -> None:
    remote.image("demo:1", tar(DISK))
    registry.password = "s3cret"
    with pytest.raises(ImageError, match="name a Secret with credentials in imagePullSecret"):
        pulling.disk(f"{registry.host}/demo:1")
    allowed = Pull(credentials=docker_config(registry.host, "s3cret"))
    assert pulling.disk(f"{registry.host}/demo:1", pull=allowed).read_bytes() == b"raw" * 4096
    with pytest.raises(ImageError, match="imagePullSecret"):
        pulling.disk(f"{registry.host}/demo:1")  # that another one may does not mean that this one may
    assert "s3cret" not in repr(allowed)
    assert not [path for path in (tmp_path / "pulled").rglob("*") if path.is_file() and b"auth" in path.read_bytes()]


def test_a_registry_that_is_down(registries: Registries, tmp_path: Path, remote: Layout) -> None:
    with serving(remote.root) as gone:
        host = gone.host
    (tmp_path / "images").mkdir()
    with pytest.raises(ImageError, match="the registry cannot be reached") as caught:
        ImageStore(tmp_path / "images", tmp_path / "cache", registries).disk(f"{host}/demo:1")
    assert caught.value.retry
    assert caught.value.reason == "ErrImagePull"


def test_plain_http_is_spoken_only_where_that_was_allowed(remote: Layout, registry: Registry, tmp_path: Path) -> None:
    remote.image("demo:1", tar(DISK))
    (tmp_path / "images").mkdir()
    with pytest.raises(ImageError, match="insecureRegistries"):
        ImageStore(tmp_path / "images", tmp_path / "cache", Registries(tmp_path / "p")).disk(f"{registry.host}/demo:1")


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (tar(member("../../evil", b"x")), r"is refused: the path '../../evil' holds '..'"),
        (tar(link("disk", "/etc"), member("disk/../../x", b"x")), "holds '..'"),
        (tar(member("etc/motd", b"x")), "no file below /disk"),
        (tar(link("disk", "/"), link("x", "disk/etc/passwd")), "no file below /disk|is ambiguous"),
    ],
)
def test_hostile_and_useless_images(
    remote: Layout, registry: Registry, pulling: ImageStore, layer: bytes, message: str
) -> None:
    remote.image("demo:1", layer)
    with pytest.raises(ImageError, match=message) as caught:
        pulling.disk(f"{registry.host}/demo:1")
    assert not caught.value.retry


def test_the_store_of_the_node_comes_first(
    layout: Layout, registry: Registry, tmp_path: Path, registries: Registries
) -> None:
    layout.image(f"{registry.host}/demo:1", tar(member("disk/d.img", b"mine" * 1024)))
    store = ImageStore(layout.root, tmp_path / "cache", registries)
    assert store.disk(f"{registry.host}/demo:1").read_bytes() == b"mine" * 1024
    assert registry.asked == []
    with pytest.raises(ImageError, match="no image debian:12 in the image store"):
        store.disk("debian:12")


def test_what_was_interrupted_or_is_old_is_cleared_away(
    remote: Layout, registry: Registry, pulling: ImageStore, registries: Registries, tmp_path: Path
) -> None:
    remote.image("demo:1", tar(DISK))
    tree = pulling.tree(f"{registry.host}/demo:1")
    (tmp_path / "pulled" / "tmp.half").mkdir()
    pulling.sweep()
    (place,) = (tmp_path / "pulled").iterdir()
    assert pulling.prune([]) == []
    pulling._asked.clear()
    assert pulling.prune([]) == []  # it is kept although no machine uses it
    os.utime(place / SOURCE, (0, (place / SOURCE).stat().st_mtime - KEPT_SECONDS - 10))
    assert pulling.prune([tree.name]) == []
    assert not place.exists()
    assert pulling.prune([]) == [tree.name]
    assert pulling.disk(f"{registry.host}/demo:1").read_bytes() == b"raw" * 4096


def test_references() -> None:
    assert Reference.parse("demo:1") is None
    assert Reference.parse("localhost/demo:1") is None
    assert Reference.parse("team/demo") is None
    assert Reference.parse("oci-archive:a.tar:x") is None
    assert str(Reference.parse("docker://registry.example/team/demo")) == "registry.example/team/demo:latest"
    found = Reference.parse("host:5000/a/b:c")
    assert found == Reference("host:5000", "a/b", "c", "")
    assert found is not None
    assert (found.policy(""), found.policy("Always")) == ("IfNotPresent", "Always")
    latest = Reference.parse("host:5000/a/b")
    assert latest is not None
    assert latest.policy("") == "Always"


def test_pull_secrets(
    remote: Layout, registry: Registry, pulling: ImageStore, tmp_path: Path, make_vmi: Make, home: Path
) -> None:
    remote.image("demo:1", tar(DISK))
    registry.password = "s3cret"
    vmi = make_vmi({"name": "root", "containerDisk": {"image": f"{registry.host}/demo:1", "imagePullSecret": "s"}})
    assert needed(vmi).secrets == {"s"}
    places = Places(pulling, tmp_path / "volumes", tmp_path / "hostdisks")
    with pytest.raises(ImageError, match=r"Secret s for pulling .* does not exist yet; waiting") as caught:
        prepare(vmi, PlainDriver(), home, places, Inputs())
    assert caught.value.retry
    with pytest.raises(AgentError, match=r"Secret s .* has no key .dockerconfigjson"):
        prepare(vmi, PlainDriver(), home, places, Inputs({"s": {"password": b"s3cret"}}))
    inputs = Inputs({"s": {".dockerconfigjson": docker_config(registry.host, "s3cret")}})
    assert prepare(vmi, PlainDriver(), home, places, inputs).files["root"].format == "qcow2"
    old = json.loads(docker_config(registry.host, "s3cret"))["auths"]
    assert json.loads(credentials({".dockercfg": json.dumps(old).encode()}, "s")) == {"auths": old}
