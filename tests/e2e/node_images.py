"""The images of nodes: imported and unpacked once, and then shared by all nodes with hard links.

Importing takes half a minute, and every node would do it anew. So a containerd of its own imports a set of images into
a folder of the cache, and a node begins with a copy of that folder. What isn't obvious: layers are never written to
once they are unpacked (containers write above them), so their files may be links; the databases are really copied.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.goprograms import cache

TOP = Path(__file__).resolve().parents[2]
PAUSE = "localhost/polyvisor/pause:1"
PAUSE_SOURCE = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n"
KEPT = 3
SECONDS = 300
DATABASES = "*/*.db"
IMPORT = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/store
containerd --root {store} --state /run/store --address /run/store/socket --log-level error &
until ctr --address /run/store/socket version >/dev/null 2>&1; do sleep 0.05; kill -0 $!; done
for image in {images}; do ctr --address /run/store/socket --namespace k8s.io images import $image; done
kill $!
wait $!
"""


def store_of(images: Sequence[Path]) -> Path:
    """Return the folder of a containerd that has these images and that of a Pod's first process."""
    folder = cache() / "nodes"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tars = [_pause(folder), *images]
        digest = hashlib.sha256(IMPORT.encode())
        for tar in tars:
            known = tar.stat()
            digest.update(f"{tar} {known.st_size} {known.st_mtime_ns}\n".encode())
        store = folder / digest.hexdigest()[:16]
        if not store.exists():
            _import(store, tars)
            stores = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
            for old in stores[:-KEPT]:
                shutil.rmtree(old)
        os.utime(store)
        return store


def copy_store(store: Path, root: Path) -> None:
    """Give a node its containerd's folder."""
    root.rmdir()
    for links in (["--link"], []):
        done = subprocess.run(["cp", "--archive", *links, store, root], capture_output=True, text=True)
        if done.returncode == 0:
            break
        shutil.rmtree(root, ignore_errors=True)  # the cache is on another file system
    assert done.returncode == 0, done.stderr[-500:]
    for database in store.glob(DATABASES):
        mine = root / database.relative_to(store)
        mine.unlink()
        shutil.copy2(database, mine)


def demo_guests() -> Path:
    """Return the demo's guest images as one tar file, made if it is not there."""
    folder = cache() / "nodes"
    layout = TOP / "build" / "images"
    subprocess.run([sys.executable, TOP / "tools/guest_images.py", layout], check=True)
    index = json.loads((layout / "index.json").read_text())
    tar = folder / f"guests-{hashlib.sha256(_json(index)).hexdigest()[:16]}.tar"
    if not tar.exists():
        folder.mkdir(parents=True, exist_ok=True)
        scratch = tar.with_suffix(f".{os.getpid()}")
        with tarfile.open(scratch, "w") as packed:
            for name in ("oci-layout", "index.json", "blobs"):
                packed.add(layout / name, name)
        scratch.rename(tar)
    return tar


def _import(store: Path, tars: Sequence[Path]) -> None:
    scratch = store.with_name(f".{store.name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    script = IMPORT.format(store=scratch, images=" ".join(map(str, tars)))
    spaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    done = subprocess.run([*spaces, "bash", "-c", script], capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        shutil.rmtree(scratch)
        raise AssertionError(f"images cannot be imported: {done.stderr[-2000:]}")
    scratch.rename(store)


def _pause(folder: Path) -> Path:
    """Make the image of a Pod's first process, which waits and nothing else, as ``docker save`` would write it."""
    image = folder / f"pause-{hashlib.sha256(PAUSE_SOURCE.encode()).hexdigest()[:8]}.tar"
    if image.exists():
        return image
    binary = folder / "pause"
    compiler = ["cc", "-x", "c", "-static", "-O1", "-s", "-o", str(binary), "-"]
    subprocess.run(compiler, input=PAUSE_SOURCE, text=True, check=True)
    image.write_bytes(archive(PAUSE, {"pause": binary.read_bytes()}, 0o755, {"Entrypoint": ["/pause"]}))
    return image


def archive(name: str, files: dict[str, bytes], mode: int, config: dict[str, object]) -> bytes:
    """Return an image of one layer, as ``docker save`` would write it."""
    layer = _tar(files, mode)
    digest = hashlib.sha256(layer).hexdigest()
    described = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": [f"{digest}.tar"]}]
    parts = {f"{digest}.tar": layer, "config.json": _json(described), "manifest.json": _json(manifest)}
    return _tar(parts, 0o644)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _tar(files: dict[str, bytes], mode: int) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), mode
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()
