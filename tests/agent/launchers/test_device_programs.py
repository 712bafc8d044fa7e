"""Control groups of version 2 with a list of devices, made for real where this machine has such groups."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyvisor.agent.launchers import confinement, device_programs
from polyvisor.agent.launchers.confinement import Confinement
from tests.agent.launchers.test_confinement import USER, state
from tests.needs import absent

__all__ = ["state"]
NULL, ZERO, RANDOM = (1, 3), (1, 5), (1, 8)


def unified() -> Path:
    """Return where control groups of version 2 are mounted."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    places = [Path(place) for _, place, kind, *_ in mounts if kind == "cgroup2"]
    if not places:
        absent("control groups v2", "none are mounted")
    return places[0]


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The control group that this process is in, as if there were none of version 1."""
    found = unified()
    monkeypatch.setattr(device_programs, "UNIFIED", found)
    monkeypatch.setattr(confinement, "GROUPS", Path("/nonexistent"))
    base = device_programs.base()
    assert base is not None
    return base


@pytest.fixture
def group(groups: Path) -> Iterator[Path]:
    found = groups / "polyvisor-test-devices"
    try:
        device_programs.make(found, [])
    except OSError as error:
        absent("control groups v2", str(error))
    yield found
    if found.exists():
        found.rmdir()


def inside(group: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a control group, as root, whom no modes stop."""
    whole = f"echo $$ >{group}/cgroup.procs; {script}"
    return subprocess.run(["sh", "-c", whole], capture_output=True, text=True)


@pytest.mark.root
def test_the_devices_of_the_list_are_opened_and_no_others(group: Path) -> None:
    device_programs.make(group, [NULL, RANDOM])
    done = inside(group, "head -c 1 /dev/random | wc -c; echo x >/dev/null && echo written; head -c 1 /dev/zero")
    assert done.stdout.split() == ["1", "written"]
    assert "Operation not permitted" in done.stderr
    assert "/dev/zero" in done.stderr


@pytest.mark.root
def test_all_devices_of_a_major_number_can_be_on_the_list(group: Path) -> None:
    device_programs.make(group, [(1, None)])
    assert inside(group, "head -c 1 /dev/zero | wc -c; : </dev/tty").stdout.split() == ["1"]


@pytest.mark.root
def test_no_device_is_made_not_even_one_of_the_list(group: Path, tmp_path: Path) -> None:
    device_programs.make(group, [NULL])
    done = inside(
        group, f"mknod {tmp_path}/null c 1 3; mknod {tmp_path}/disk b 7 0; mkfifo {tmp_path}/pipe && echo made"
    )
    assert done.stderr.count("Operation not permitted") == 2
    assert done.stdout.split() == ["made"]


@pytest.mark.root
def test_a_disk_with_the_numbers_of_a_device_of_the_list_is_another_device(group: Path, tmp_path: Path) -> None:
    device_programs.make(group, [(7, 0)])
    made = subprocess.run(["mknod", tmp_path / "disk", "b", "7", "0"], check=False)
    if made.returncode:
        absent("device nodes", "mknod is not permitted")
    assert "Operation not permitted" in inside(group, f": <{tmp_path}/disk").stderr


@pytest.mark.root
def test_a_group_that_was_left_is_made_anew(group: Path) -> None:
    device_programs.make(group, [ZERO])
    device_programs.make(group, [NULL])
    assert inside(group, "echo x >/dev/null && echo written").stdout.split() == ["written"]


@pytest.mark.root
def test_a_launcher_has_its_list_of_devices_with_version_2(groups: Path, state: Path) -> None:
    one = Confinement(state)
    one.open()
    if "mknod" in one.why_not:
        absent("device nodes", one.why_not)
    assert one.why_not == ""
    command = one.command(state / "l/one", USER, ["/dev/null"], "one", "mine")
    subprocess.run(["mknod", state / "l/one/loop", "c", "10", "237"], check=True)
    script = f"head -c 1 /dev/zero | wc -c; head -c 1 {state}/l/one/loop; grep ^0: /proc/self/cgroup"
    done = subprocess.run([*command, "sh", "-c", script], capture_output=True, text=True)
    assert "Operation not permitted" in done.stderr
    count, where = done.stdout.split()
    assert count == "1"
    assert where.endswith(f"/polyvisor{state}-one".replace("/", "-").replace("-polyvisor", "/polyvisor", 1))
    one.release("one")
    assert not list(groups.glob(f"polyvisor{state}*".replace("/", "-")))


def test_where_the_kernel_makes_none_a_launcher_goes_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(confinement, "GROUPS", Path("/nonexistent"))
    monkeypatch.setattr(device_programs, "base", lambda: tmp_path)

    def refuse(*_: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(device_programs, "_bpf", refuse)
    one = Confinement(tmp_path)
    for _ in range(2):
        assert "" in one.command(tmp_path, USER, [], "one")
    assert [record.getMessage() for record in caplog.records] == [
        "machines have no list of devices: [Errno 1] Operation not permitted"
    ]
    assert list(tmp_path.iterdir()) == []
