"""What tests keep in the user's cache between runs: the demo's guest images, and what probes have found out.

Images are kept by the content of all that makes them, a probe's answer by the code of drivers and launcher. The answer
holds for this boot of the host, and an agent believes it only while QEMU, libvirt and the kernel are the same. Tests of
probes and of new hosts do without.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP / "tools"))

import guest_images as maker  # noqa: E402

ANSWER = "answer.json"
WEEK = 7 * 24 * 3600
TRIALS = shutil.ignore_patterns("t", "kvm", "root")
"""Folders of trials, which are there while a probe runs."""


def cache() -> Path:
    """Return the folder that is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "polyvisor" / "tests"


def guest_images() -> Path:
    """Return the layout of the demo's guest images, made if it is not there."""
    folder = cache() / f"images-{maker.recipe()[:16]}"
    with _alone("images"):
        command = [sys.executable, TOP / "tools/guest_images.py", folder, "--cache", cache() / "packages"]
        subprocess.run(command, check=True)
    return folder


def probes() -> Path:
    """Return the folder of what probes have found out with this tree's code."""
    digest = hashlib.sha256()
    for path in sorted(file for name in ("drivers", "launcher") for file in (TOP / "polyvisor" / name).rglob("*.py")):
        digest.update(path.read_bytes())
    return cache() / f"probes-{digest.hexdigest()[:16]}"


def recall_probes(folder: Path) -> None:
    """Put what probes have found out into an agent's folder for it."""
    with _alone("probes"):
        if probes().is_dir():
            shutil.copytree(probes(), folder, dirs_exist_ok=True)


def keep_probes(folder: Path) -> None:
    """Keep what an agent has found out."""
    for answer in folder.glob(f"*/{ANSWER}"):
        kept = probes() / answer.parent.name
        with _alone("probes"):
            _remove_old()
            if not (kept / ANSWER).exists() or (kept / ANSWER).read_bytes() != answer.read_bytes():
                shutil.rmtree(kept, ignore_errors=True)
                shutil.copytree(answer.parent, kept, ignore=TRIALS)


def _remove_old() -> None:
    """Remove what other code has found out and nothing was added to for a week."""
    for folder in cache().glob("probes-*"):
        if folder != probes() and time.time() - folder.stat().st_mtime > WEEK:
            shutil.rmtree(folder)


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Keep other processes that run tests out."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
