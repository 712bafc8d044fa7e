"""Build the container images of Polyvisor's components and launchers, as tar files that any node's runtime takes.

``images.py [NAME...]`` builds what changed since it was last built (all of them without a name) into the folder
``build/containers`` and prints a table; ``--fresh`` builds anew, with today's packages. The images are those of
``images/*/Containerfile`` and ``polyvisor/drivers/*/Containerfile``, and any other builder can build them too: here
they start from a Debian that mmdebstrap makes from the host's own package sources, and buildah builds without a daemon,
with the host's configuration of apt for the time of the build.

What isn't obvious: what was built is known by a digest of all that went in (recipe, copied files, base), so a second
run takes no time; Debian's packages are no part of that. Downloads and layers lie in the user's cache, shared by all
trees.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from guest_images import ImageError, Packages, read_package, say
from try_launcher import try_image

from polyvisor.drivers.trial import TrialError

TOP = Path(__file__).resolve().parent.parent
DRIVERS = TOP / "polyvisor/drivers"
OUTPUT = TOP / "build/containers"
REGISTRY = "localhost/polyvisor"
SHARED = "python"
BASES = dict.fromkeys(("virt-api", "virt-controller", "virt-endpoint", "virt-handler"), SHARED)
"""Image -> the image of ours that it builds on; the others build on Debian."""
TRIED = "launcher-qemu"
"""The image that is run, to show that a guest starts in it."""
EXCLUDED = (
    *(f"/usr/share/{name}/*" for name in ("doc", "man", "locale", "info", "lintian", "iso-codes", "xml/iso-codes")),
    *("/usr/share/zoneinfo/right/*", "/usr/lib/*/gconv/*", "/usr/lib/file/magic.mgc"),
)
INCLUDED = (
    "/usr/share/doc/*/copyright",
    *(f"/usr/lib/*/gconv/{name}*" for name in ("gconv-modules", "UTF-", "ISO8859-1.")),
)
"""Files of Debian's packages that are left out of all images, and those of them that are not."""
NOT_THEIRS = frozenset({"click", "libvirt-python", "pycparser", "rich", "typer"})
"""What Polyvisor depends on and images do not get: libvirt's bindings are Debian's, which fit its libvirt; no image
runs a command line, and none compiles C declarations."""
UNUSED = (
    "*.pyi",
    "lxml/*.p[xy][dxi]",
    "lxml/*.h",
    *(f"lxml/{name}*" for name in ("builder", "cssselect", "html/", "includes/", "isoschematron/", "objectify", "sax")),
    "pydantic/v1/*",
    "yaml/_yaml*",
)
"""Files of these packages that nothing here loads, 9 MB."""
ENDINGS = (".list", ".sources")
ACQUIRE = re.compile(r"^Acquire::(http|https|Check)[^;]*;$", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def cache() -> Path:
    """Return the folder of layers and downloads."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "polyvisor" / "images"


def recipes() -> dict[str, Path]:
    """Return name -> Containerfile of all images."""
    found = {path.parent.name: path for path in sorted((TOP / "images").glob("*/Containerfile"))}
    found |= {f"launcher-{path.parent.name}": path for path in sorted(DRIVERS.glob("*/Containerfile"))}
    return found


def reference(name: str) -> str:
    """Return the image's full name."""
    version = importlib.metadata.version("polyvisor")
    return f"{REGISTRY}/{name}:v{version}"


# --- what goes in -----------------------------------------------------------------------------------------------------


def runtime_packages(without: Set[str] = NOT_THEIRS) -> list[importlib.metadata.Distribution]:
    """Return what Polyvisor needs at run time, itself included, as it is installed beside this interpreter."""
    found: dict[str, importlib.metadata.Distribution] = {}
    wanted = ["polyvisor"]
    while wanted:
        name = _plain(wanted.pop())
        if name in found or name in without:
            continue
        found[name] = importlib.metadata.distribution(name)
        for requirement in found[name].requires or []:
            needed, _, marker = requirement.partition(";")
            if "extra" not in marker and _holds(marker) and (match := _NAME.match(needed.strip())):
                wanted.append(match[0])
    return [found[name] for name in sorted(found)]


def copy_package(package: importlib.metadata.Distribution, folder: Path) -> None:
    """Copy a package's files into a folder of packages; of one that is installed as a link, its metadata."""
    for file in package.files or []:
        if ".." in file.parts or "__pycache__" in file.parts or file.parts[0].startswith("__editable__"):
            continue
        if any(fnmatch(file.as_posix(), pattern) for pattern in UNUSED):
            continue
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(file.locate()), target)


def _holds(marker: str) -> bool:
    if not marker.strip():
        return True
    from packaging.markers import Marker

    return Marker(marker).evaluate()


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def make_context(folder: Path) -> None:
    """Put together what recipes may copy: ``polyvisor``, ``site`` (packages from the lock) and ``vmlinuz``."""
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(TOP / "polyvisor", folder / "polyvisor", ignore=skip)
    for package in runtime_packages():
        copy_package(package, folder / "site")
    for path in folder.rglob("*"):  # so that the same content is the same layer
        os.utime(path, (0, 0))
        path.chmod(0o755 if path.is_dir() else 0o644)


def kernel() -> bytes:
    """Return the kernel that node agents try hypervisors with: Debian's for clouds."""
    folder = cache() / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    packages = Packages(folder)
    name = packages.kernel()
    there = sorted(folder.glob(f"{name}_*.deb"))
    return next(iter(read_package(there[-1] if there else packages.fetch(name), re.compile("^boot/vmlinuz")).values()))


def digest(recipe: Path, context: Path, base: str) -> str:
    """Return the digest of all that goes into an image."""
    hashed = hashlib.sha256(recipe.read_bytes() + base.encode())
    for source in re.findall(r"^COPY (\S+)", recipe.read_text(), re.MULTILINE):
        place = context / source
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file():
                hashed.update(path.relative_to(context).as_posix().encode() + b"\0" + path.read_bytes())
    return hashed.hexdigest()[:16]


# --- building ---------------------------------------------------------------------------------------------------------


class Builder:
    """Runs buildah with a store of its own."""

    def __init__(self, context: Path, fresh: bool) -> None:
        self._context = context
        self._fresh = fresh
        self._digests: dict[str, str] = {}
        self._store = cache() / "store"

    @property
    def command(self) -> list[str]:
        """The beginning of a call of buildah."""
        places = ["--root", str(self._store), "--runroot", str(cache() / "run"), "--storage-driver", "overlay"]
        return ["buildah", *places]

    def buildah(self, *arguments: str | Path) -> str:
        """Run buildah; return what it printed."""
        done = subprocess.run([*self.command, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise ImageError(f"buildah {arguments[0]} failed:\n{done.stderr.strip()[-3000:]}")
        return done.stdout.strip()

    def has(self, tag: str) -> bool:
        """Whether the store has an image of that name."""
        return bool(self.buildah("images", "--quiet", "--filter", f"reference={tag}"))

    def debian(self) -> tuple[str, str]:
        """Return name and digest of the Debian that all start from, made if it is not there."""
        release = _release()
        print_ = hashlib.sha256(f"{release}{EXCLUDED}{INCLUDED}".encode()).hexdigest()[:16]
        tag = f"{REGISTRY}/debian:{release}-{print_}"
        if (self._fresh and "debian" not in self._digests) or not self.has(tag):
            say(f"images: making Debian {release}")
            tar = self._context / "debian.tar"
            _bootstrap(release, tar)
            container = self.buildah("from", "scratch")
            self.buildah("add", "--quiet", container, tar, "/")
            self.buildah("commit", "--quiet", "--rm", container, tag)
            tar.unlink()
        self._digests["debian"] = print_
        return tag, print_

    def image(self, name: str) -> tuple[str, str]:
        """Return an image's name in the store and its digest; it is built if it is not there."""
        recipe = recipes()[name]
        base, below = self.image(BASES[name]) if name in BASES else self.debian()
        known = self._digests.get(name)
        print_ = known or digest(recipe, self._context, below)
        tag = f"{REGISTRY}/{name}:{print_}"
        if not known and (self._fresh or not self.has(tag)):
            begin = time.monotonic()
            options = ["--isolation=chroot", "--layers", "--volume=/etc/apt:/etc/apt:ro", f"--build-arg=BASE={base}"]
            options += ["--no-cache"] if self._fresh else []
            self.buildah("bud", "--quiet", *options, f"--tag={tag}", f"--file={recipe}", self._context)
            say(f"images: built {name} in {time.monotonic() - begin:.0f} s")
        self._digests[name] = print_
        return tag, print_

    def export(self, name: str) -> Path:
        """Write an image's tar file, unless it is there already."""
        tag, print_ = self.image(name)
        OUTPUT.mkdir(parents=True, exist_ok=True)
        tar = OUTPUT / f"{name}.tar"
        stamp = OUTPUT / f".{name}.{reference(name).rpartition(':')[2]}.{print_}"
        if not (tar.exists() and stamp.exists()) or self._fresh:
            for old in (tar, *OUTPUT.glob(f".{name}.v*")):
                old.unlink(missing_ok=True)
            self.buildah("push", "--quiet", tag, f"docker-archive:{tar}:{reference(name)}")
            stamp.touch()
        return tar


def _release() -> str:
    found = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    if found is None:
        raise ImageError("this is not a release of Debian; images are made from the host's own packages")
    return found[1]


def _bootstrap(release: str, tar: Path) -> None:
    """Make a small Debian with Python; nothing of the host's configuration of apt stays in it."""
    folder = Path("/etc/apt")
    listed = (folder / "sources.list", *folder.glob("sources.list.d/*"))
    sources = [path for path in listed if path.suffix in ENDINGS and path.exists()]
    said = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    options = [f"--aptopt={match[0]}" for match in ACQUIRE.finditer(said)]
    options += [f"--dpkgopt=path-exclude={name}" for name in EXCLUDED]
    options += [f"--dpkgopt=path-include={name}" for name in INCLUDED]
    # usr-is-merged in the place of usrmerge, which would bring the whole of Perl
    options += ['--aptopt=Apt::Install-Recommends "false"', "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"]
    forget = 'rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*'
    command = [
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        "--include=ca-certificates,python3",
        *options,
    ]
    command += [f"--customize-hook={forget}", release, str(tar), *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageError(f"mmdebstrap failed:\n{done.stderr.strip()[-3000:]}")


@contextmanager
def _alone() -> Iterator[None]:
    """Keep other builders away from the store."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(names: list[str], *, fresh: bool = False, tried: str = "") -> list[Path]:
    """Build what is not there yet; return the tar files. The image ``tried`` is run, too."""
    subprocess.run([TOP / "tools/setup", "images"], check=True, stdout=subprocess.DEVNULL)
    context = OUTPUT.parent / f".context.{os.getpid()}"
    with _alone():
        try:
            make_context(context)
            (context / "vmlinuz").write_bytes(kernel())
            builder = Builder(context, fresh)
            made = [builder.export(name) for name in names]
            if tried in names:
                begun = try_image(builder.buildah, builder.command, builder.image(tried)[0], kernel())
                say(f"images: {begun}")
            return made
        finally:
            shutil.rmtree(context, ignore_errors=True)


def main() -> int:
    """Run the program."""
    known = [name for name in recipes() if name != SHARED]
    parser = argparse.ArgumentParser(description="Build the images of Polyvisor's components and launchers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}")
    parser.add_argument("--fresh", action="store_true", help="build anew, with today's packages")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in known]:
        parser.error(f"there is no image {unknown[0]}; there are {', '.join(known)}")
    try:
        made = build(given.names or known, fresh=given.fresh, tried=TRIED)
    except (ImageError, TrialError, OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"images: {error}\n")
        return 1
    for path in made:
        say(f"{path.stat().st_size / 1e6:6.0f} MB  {reference(path.stem):45} {path.relative_to(TOP)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
