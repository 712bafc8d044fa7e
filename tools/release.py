"""``make release``: write what users install into ``dist/``, all of one version, ``polyvisor.__version__``.

| file | what it is |
|---|---|
| ``polyvisor-VERSION-py3-none-any.whl``, ``polyvisor-VERSION.tar.gz`` | the Python package, for pip and pipx |
| ``polyvisor-chart-VERSION.tgz`` | the Helm chart |
| ``polyvisor-IMAGE-vVERSION.tar`` | the container images, tagged with the version; ``docker load`` reads them |
| ``SHA256SUMS`` | checksums of all of these |

``release.py package chart`` makes these parts alone. Times in the wheel and in the chart are the commit's, so one
commit gives the same files; the sdist and the images differ in times.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from polyvisor import __version__

TOP = Path(__file__).resolve().parent.parent
CHART = TOP / "polyvisor" / "installation" / "chart"
SOURCES = ("pyproject.toml", "README.md", "LICENSE")
SUMS = "SHA256SUMS"


class ReleaseError(Exception):
    """The release cannot be made; the text says why and what to do."""


def commit_time() -> int:
    """Return when the commit was made, in seconds since the epoch; outside a repository, now."""
    shown = subprocess.run(["git", "-C", TOP, "log", "-1", "--format=%ct"], capture_output=True, text=True, check=False)
    return int(shown.stdout.strip() or time.time())


def package(target: Path) -> None:
    """Build wheel and sdist with the pinned setuptools, from a copy that holds nothing of earlier builds."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "tree"
        copy.mkdir()
        for name in SOURCES:
            shutil.copyfile(TOP / name, copy / name)
        shutil.copytree(TOP / "polyvisor", copy / "polyvisor", ignore=shutil.ignore_patterns("__pycache__"))
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", target, copy]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(commit_time())}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(f"python -m build failed:\n{(done.stdout + done.stderr).strip()[-2000:]}")


def chart(target: Path) -> None:
    """Pack the chart as ``helm package`` does: all files below a folder of the chart's name."""
    moment = commit_time()

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = moment
        member.mode = 0o644
        return member

    place = target / f"polyvisor-chart-{__version__}.tgz"
    with (
        place.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=moment) as packed,
        tarfile.open(fileobj=packed, mode="w", dereference=True) as archive,
    ):
        for folder, below, names in os.walk(CHART, followlinks=True):
            below.sort()
            for name in sorted(names):
                path = Path(folder) / name
                archive.add(path, f"polyvisor/{path.relative_to(CHART)}", filter=plain)


def images(target: Path) -> None:
    """Build the container images, and put them beside the rest."""
    import images as builder

    names = [name for name in builder.recipes() if name != builder.SHARED]
    for tar in builder.build(names, tried=builder.TRIED):
        shutil.copyfile(tar, target / f"polyvisor-{tar.stem}-v{__version__}.tar")


PARTS: dict[str, Callable[[Path], None]] = {"package": package, "chart": chart, "images": images}


def checksums(target: Path) -> str:
    """Write the checksums of all files, as ``sha256sum --check`` reads them."""
    lines = []
    for path in sorted(target.iterdir()):
        if path.name != SUMS:
            with path.open("rb") as file:
                lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    text = "".join(lines)
    (target / SUMS).write_text(text)
    return text


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Write what users install into dist/.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all of them by default")
    parser.add_argument("--to", type=Path, default=TOP / "dist", help="the folder (dist)")
    given = parser.parse_args()
    if unknown := [name for name in given.parts if name not in PARTS]:
        parser.error(f"there is no part {unknown[0]}; there are {', '.join(PARTS)}")
    try:
        shutil.rmtree(given.to, ignore_errors=True)
        given.to.mkdir(parents=True)
        for name in given.parts or PARTS:
            sys.stdout.write(f"release: {name}\n")
            sys.stdout.flush()
            PARTS[name](given.to)
        sys.stdout.write(checksums(given.to))
    except (ReleaseError, OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"release: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
