"""A release: the wheel works where nothing of the tree is, the chart is whole, and there is one version."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from polyvisor import __version__

TOP = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    _release("package", "chart", "--to", folder)
    return folder


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The programs of a new environment that holds the wheel; its dependencies are borrowed from this one."""
    venv = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (wheel,) = dist.glob("*.whl")
    subprocess.run([sys.executable, "-m", "pip", "--python", venv / "bin/python", "install", "--quiet", "--no-deps",
                    "--no-index", wheel], check=True)  # fmt: skip
    (packages,) = venv.glob("lib/python*/site-packages")
    # a path in a .pth file is searched last, and .pth files below it, such as the editable install's, are not read
    (packages / "borrowed.pth").write_text(sysconfig.get_path("platlib"))
    return venv / "bin"


def _release(*words: str | Path) -> None:
    subprocess.run([sys.executable, TOP / "tools/release.py", *words], check=True, capture_output=True)


def _run(program: Path, *words: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([program, *words], cwd="/", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_tells_its_version(installed: Path) -> None:
    assert _run(installed / "polyvisor", "--version") == f"polyvisor {__version__}\n"


def test_the_wheel_is_what_runs(installed: Path) -> None:
    place = _run(installed / "python", "-c", "import polyvisor; print(polyvisor.__file__)")
    assert place.startswith(str(installed.parent))


def test_the_wheel_has_all_drivers(installed: Path) -> None:
    shown = _run(installed / "polyvisor", "features", "--driver", "qemu")
    assert "supported" in shown
    listed = _run(installed / "python", "-c", "from polyvisor.drivers import registry; print(len(list(registry())))")
    assert int(listed) == 11


def test_the_wheel_can_install_into_a_cluster(installed: Path) -> None:
    """The chart's templates and values are data files, which a package forgets easily."""
    shown = _run(installed / "polyvisor", "install", "--dry-run")
    assert shown == _run(Path(sys.executable).with_name("polyvisor"), "install", "--dry-run")
    assert set(re.findall(r"image: \S+/virt-\w+:(\S+)", shown)) == {f"v{__version__}"}


def test_the_wheel_has_every_module_and_data_file(dist: Path, installed: Path) -> None:
    (packages,) = installed.parent.glob("lib/python*/site-packages")
    files = [path for path in (TOP / "polyvisor").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    wanted = {path.relative_to(TOP) for path in files if path.name != "Containerfile" and path.suffix != ".S"}
    assert {name for name in wanted if not (packages / name).exists()} == set()


def test_the_chart_is_whole(dist: Path) -> None:
    with tarfile.open(dist / f"polyvisor-chart-{__version__}.tgz") as archive:
        members = {member.name: member for member in archive}
        chart = yaml.safe_load(archive.extractfile("polyvisor/Chart.yaml"))  # type: ignore[arg-type]
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    assert "polyvisor/values.yaml" in members
    assert all(member.isfile() for member in members.values()), "a link leads out of the archive"
    source = TOP / "polyvisor" / "installation" / "chart"
    for folder in ("templates", "crds"):
        packed = {name.rpartition("/")[2] for name in members if name.startswith(f"polyvisor/{folder}/")}
        assert packed == {path.name for path in (source / folder).iterdir()}


def test_one_commit_gives_one_chart(dist: Path, tmp_path: Path) -> None:
    _release("chart", "--to", tmp_path / "again")
    name = f"polyvisor-chart-{__version__}.tgz"
    assert (tmp_path / "again" / name).read_bytes() == (dist / name).read_bytes()


def test_checksums_name_every_file(dist: Path) -> None:
    listed = dict(reversed(line.split("  ")) for line in (dist / "SHA256SUMS").read_text().splitlines())
    files = [path for path in dist.iterdir() if path.name != "SHA256SUMS"]
    assert listed == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
