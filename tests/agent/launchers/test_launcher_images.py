"""Probing inside containers of launcher images, and what launchers of the same image are handed of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.launchers import launcher_images
from polyvisor.agent.launchers.launcher_images import LauncherImages
from polyvisor.drivers.base import Driver, Endpoint, LauncherPlan, ProbeResult
from tests.drivers_for_tests import FakeDriver

Obj = dict[str, Any]
IMAGE, OTHER = "sha256:a", "sha256:b"
ID = "containerd://" + "0" * 64
PLAN = LauncherPlan(uri="u", files={"a": "b"})


class Warming(FakeDriver):
    """A driver whose probe leaves a file for launchers."""

    def launcher(self, folder: Path, scratch: Path | None = None, endpoint: Endpoint | None = None) -> LauncherPlan:
        return LauncherPlan(uri="u", seeds={"cache": os.fspath(scratch / "warm")} if scratch else {})


def pod(name: str, image: str, **more: Any) -> Obj:
    status = {"name": name, "imageID": image, "containerID": ID, "state": {"running": {}}, **more}
    return {
        "metadata": {"uid": "u", "annotations": {}},
        "spec": {"containers": [{"name": name}]},
        "status": {"containerStatuses": [status]},
    }


def launcher(image: str, virt_type: str) -> Obj:
    found = pod("compute", image)
    found["metadata"]["annotations"] = {"hypervisor.kubevirt.io/virt-type": virt_type}
    return found


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> LauncherImages:
    def inside(_: LauncherImages, driver: Driver, scratch: Path, uid: str, identity: str, *more: str) -> ProbeResult:
        (scratch / "warm").mkdir(parents=True)
        (scratch / "warm" / "x.xml").write_text(" ".join(more) or "nothing")
        return ProbeResult(True, version="1", virt_types=("fast", "soft"))

    monkeypatch.setattr(LauncherImages, "_inside", inside)
    return LauncherImages(lambda: pod("launcher-alpha", IMAGE))


@pytest.mark.parametrize(("virt_type", "learned"), [("fast", "devices"), ("soft", "nothing")])
def test_a_launcher_of_the_image_is_handed_what_was_learned(
    images: LauncherImages, tmp_path: Path, virt_type: str, learned: str
) -> None:
    driver = Warming("alpha")
    assert images.seeded(driver, launcher(IMAGE, virt_type), PLAN) == PLAN, "nothing is known yet"
    assert images.probe(driver, tmp_path).available
    assert images.seeded(driver, launcher(IMAGE, virt_type), PLAN).files == {"a": "b", "cache/x.xml": learned}


def test_a_launcher_of_another_image_is_not(images: LauncherImages, tmp_path: Path) -> None:
    driver = Warming("alpha")
    images.probe(driver, tmp_path)
    assert images.seeded(driver, launcher(OTHER, "fast"), PLAN) == PLAN
    nothing = {**launcher(IMAGE, "fast"), "status": {}}
    assert images.seeded(driver, nothing, PLAN) == PLAN


def test_what_another_image_left_is_removed(images: LauncherImages, tmp_path: Path) -> None:
    (tmp_path / "old" / "warm").mkdir(parents=True)
    images.probe(Warming("alpha"), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert not (tmp_path / "old").exists()


def test_a_probe_is_repeated_only_when_something_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    def inside(_: LauncherImages, driver: Driver, scratch: Path, uid: str, identity: str, *more: str) -> ProbeResult:
        runs.append(more)
        return ProbeResult(len(runs) > 1, version="1")

    monkeypatch.setattr(LauncherImages, "_inside", inside)
    driver, scratch, device = FakeDriver("alpha"), tmp_path / "s", tmp_path / "device"
    scratch.mkdir()
    driver.watched = (os.fspath(device),)
    found = LauncherImages(lambda: pod("launcher-alpha", IMAGE))
    assert not found.probe(driver, scratch).available
    for _ in range(3):
        assert found.probe(driver, scratch).available
    assert len(runs) == 2, "a failure is tried again, a success is not"
    device.touch()
    found.probe(driver, scratch)
    assert len(runs) == 3


def test_a_container_that_does_not_run_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(launcher_images, "WAIT_SECONDS", 0.1)
    waits = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    found = LauncherImages(lambda: pod("launcher-alpha", "", state=waits)).probe(FakeDriver("alpha"), tmp_path)
    assert not found.available
    assert "launcher-alpha" in found.reason
    assert "ErrImagePull: no such image" in found.reason


def test_a_driver_without_an_image_says_why(images: LauncherImages, tmp_path: Path) -> None:
    driver = FakeDriver("beta")
    driver.no_image = "it needs a host of its own"
    assert images.probe(driver, tmp_path) == ProbeResult(False, "it needs a host of its own")


def test_a_driver_whose_container_is_missing_says_how_to_have_it(images: LauncherImages, tmp_path: Path) -> None:
    found = images.probe(FakeDriver("beta"), tmp_path)
    assert found == ProbeResult(
        False,
        "virt-handler has no container launcher-beta to probe it in; "
        "configuration.hypervisors and handler.launchers of the installation's values say which it has",
    )


def test_a_driver_of_another_package_is_probed_beside_the_agent(images: LauncherImages, tmp_path: Path) -> None:
    class Beside(FakeDriver):
        def probe(self, scratch: Path) -> ProbeResult:
            return ProbeResult(True, version="2", virt_types=("fast",))

    assert images.probe(Beside("beta"), tmp_path) == ProbeResult(True, version="2", virt_types=("fast",))


# --- entering a container ---------------------------------------------------------------------------------------------

CONTAINER = """
mount -t tmpfs tmpfs /mnt; echo image >/mnt/of
mount -t tmpfs tmpfs /dev; mount -t tmpfs tmpfs /sys; mount -o remount,bind,ro /
echo ready; exec sleep 1000
"""
LOOK = """
import json, os, sys
from pathlib import Path
from polyvisor.agent.launchers.probe_inside import enter
enter(int(sys.argv[1]), devices=sys.argv[2] == "True")
Path("/mnt/left").write_text("")
print(json.dumps({
    "image": Path("/mnt/of").read_text(), "self": os.path.exists("/proc/self/stat"),
    "devices": os.path.exists("/dev/null"), "sys": os.path.exists("/sys/class"),
    "writable": os.access("/usr", os.W_OK), "run": os.listdir("/run"),
}))
"""


@contextmanager
def container() -> Iterator[int]:
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", CONTAINER]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
    finally:
        process.kill()
        process.wait()


@pytest.mark.root
@pytest.mark.parametrize("devices", [True, False])
def test_a_probe_has_the_images_files_and_leaves_the_containers_mounts_alone(devices: bool) -> None:
    with container() as pid:
        before = Path(f"/proc/{pid}/mountinfo").read_text()
        process = os.pidfd_open(pid)
        command = [sys.executable, "-c", LOOK, str(process), str(devices)]
        seen = subprocess.run(command, pass_fds=[process], capture_output=True, text=True)
        os.close(process)
        assert seen.returncode == 0, seen.stderr
        places = {"self": True, "devices": devices, "sys": True, "writable": True, "run": []}
        assert json.loads(seen.stdout) == {"image": "image\n", **places}
        assert Path(f"/proc/{pid}/mountinfo").read_text() == before


@pytest.mark.root
def test_the_program_tells_a_drivers_answer_and_its_failure(tmp_path: Path) -> None:
    with container() as pid:
        process = os.pidfd_open(pid)
        answers = []
        for driver in ("esx", "nosuch"):
            command = [
                sys.executable,
                "-P",
                "-m",
                "polyvisor.agent.launchers.probe_inside",
                driver,
                tmp_path,
                str(process),
            ]
            answers.append(subprocess.run(command, pass_fds=[process], capture_output=True, text=True))
        os.close(process)
    told, failed = answers
    assert json.loads(told.stdout)["available"] is False
    assert failed.returncode == 1
    assert "nosuch" in failed.stderr
