"""Disks of attachment Pods that are shown to a launcher, and taken away; containers are processes with own roots."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.errors import AgentError, UnsafePath
from polyvisor.agent.link import containers
from polyvisor.agent.node import device_rights
from polyvisor.agent.platform.pod_hotplug import Shelf, holder_of, told_of
from polyvisor.agent.platform.pod_sources import Launcher
from polyvisor.agent.storage.disks import DiskFile

from .test_pod_sources import USER, Node, as_launcher

pytestmark = pytest.mark.root
Obj = dict[str, Any]
UID = "7a1c6d0e-3d1b-4a53-9d6b-0e8a2d3c4b5a"
CLAIM: Obj = {"metadata": {"name": "c"}, "spec": {"resources": {"requests": {"storage": "1Mi"}}}}
BLOCK: Obj = {"metadata": {"name": "c"}, "spec": {"volumeMode": "Block"}}
DISK = DiskFile(Path("/var/run/kubevirt/hotplug-disks/data.img"), "raw")
LOOP = os.makedev(7, 0)


class Pods(Node):
    """A launcher's Pod and an attachment Pod, each with one container."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.shelf_folder = folder / "hotplug-disks"
        self.shelf_folder.mkdir()
        self.path = folder / "attachment/path"
        (self.path / "data").mkdir(parents=True)
        (self.path / "more").mkdir()
        (self.launcher / "run/kubevirt/hotplug-disks").mkdir(parents=True)
        target = self.launcher / "run/kubevirt/hotplug-disks"
        mount = f"mount --bind {self.shelf_folder} {target}; mount -o remount,bind,ro {target}"
        self.launcher_pid = self.start("compute", self.launcher, mount)
        self.holder_pid = self.start("hotplug-disk", folder / "attachment", pod=UID)
        status = self.pod["status"]["containerStatuses"].pop()
        volumes = [{"name": name, "persistentVolumeClaim": {"claimName": "c"}} for name in ("data", "more")]
        self.holder: Obj = {
            "metadata": {"name": "hp-volume-x", "uid": UID, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"volumes": volumes},
            "status": {"containerStatuses": [status]},
        }

    def shelf(self, privileged: bool = False) -> Shelf:
        return Shelf(self.pod, Launcher(self.launcher_pid, USER, privileged), self.shelf_folder)

    def seen_mounts(self) -> str:
        return Path(f"/proc/{self.launcher_pid}/mountinfo").read_text()

    def group(self, pid: int, *rights: str) -> Path:
        """Have a process in a devices control group with these rights."""
        file = containers.PROC / str(pid) / "cgroup"
        path = file.read_text().strip().removeprefix("0::")
        file.write_text(f"5:devices:{path}\n0::/\n")
        folder = device_rights.ROOT / path.lstrip("/")
        folder.mkdir(parents=True)
        (folder / "cgroup.procs").write_text(f"1\n{pid}\n")
        (folder / "devices.list").write_text("".join(f"{right}\n" for right in ("c *:* m", "b *:* m", *rights)))
        return folder


@pytest.fixture
def pods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pods]:
    monkeypatch.setattr(containers, "PROC", tmp_path / "proc")
    monkeypatch.setattr(device_rights, "ROOT", tmp_path / "devices")
    (tmp_path / "proc").mkdir()
    pods = Pods(tmp_path)
    yield pods
    for process in pods.processes:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_a_claims_disk_is_made_and_shown_to_be_written_to(pods: Pods) -> None:
    here = Path("/proc/self/mountinfo").read_text()
    assert pods.shelf().put("data", CLAIM, pods.holder) == DISK
    file = pods.path / "data/disk.img"
    assert (file.stat().st_size, file.stat().st_uid) == (1 << 20, USER)
    file.write_bytes(b"kept")
    assert as_launcher(pods, DISK.path) == b"kept"
    with pytest.raises(OSError, match="Read-only file system"):
        as_launcher(pods, DISK.path.with_name("mine"), "w+b")
    before = pods.seen_mounts()
    assert pods.shelf().put("data", CLAIM, pods.holder) == DISK
    assert pods.seen_mounts() == before, "once more does no harm"
    assert Path("/proc/self/mountinfo").read_text() == here, "nothing is mounted on the node itself"


def test_what_the_domain_does_not_have_is_taken_away(pods: Pods) -> None:
    for name in ("data", "more"):
        pods.shelf().put(name, CLAIM, pods.holder)
    pods.shelf().clear({"more.img", "root.img"})
    assert "data.img" not in pods.seen_mounts()
    assert "more.img" in pods.seen_mounts()
    assert [file.name for file in pods.shelf_folder.iterdir()] == ["more.img"]
    assert (pods.path / "data/disk.img").exists(), "the claim's own stays"
    pods.shelf().clear({"more.img", "root.img"})
    pods.shelf().put("data", CLAIM, pods.holder)
    assert "data.img" in pods.seen_mounts()
    pods.shelf().clear(())
    assert not list(pods.shelf_folder.iterdir())


def test_a_file_that_was_never_shown_is_taken_away_too(pods: Pods) -> None:
    (pods.shelf_folder / "data.img").touch()  # the agent was killed before it could mount
    pods.shelf().clear(())
    assert not list(pods.shelf_folder.iterdir())


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../../etc/passwd"])
def test_a_link_in_a_claim_is_refused(pods: Pods, target: str) -> None:
    (pods.path / "data/disk.img").symlink_to(target)
    with pytest.raises(UnsafePath, match="symbolic link"):
        pods.shelf().put("data", CLAIM, pods.holder)
    assert "data.img" not in pods.seen_mounts()


def test_a_link_in_the_place_of_a_claim_stays_in_its_container(pods: Pods) -> None:
    (pods.path / "away").symlink_to("/etc")
    with pytest.raises(AgentError, match="No such file"):
        pods.shelf().put("away", CLAIM, pods.holder)


def test_an_attachment_pod_that_has_ended_has_nothing(pods: Pods) -> None:
    (containers.PROC / str(pods.holder_pid) / "cgroup").write_text("0::/kubepods/podother/x\n")
    with pytest.raises(AgentError, match="attachment Pod hp-volume-x does not run any more"):
        pods.shelf().put("data", CLAIM, pods.holder)


def test_a_launcher_that_could_have_put_anything_there_is_given_nothing(pods: Pods) -> None:
    with pytest.raises(AgentError, match="all privileges"):
        pods.shelf(privileged=True).put("data", CLAIM, pods.holder)


def test_a_launcher_of_an_older_release_is_told_of(pods: Pods) -> None:
    pods.shelf_folder.rename(pods.folder / "elsewhere")
    pods.shelf().clear(())
    with pytest.raises(AgentError, match="next start"):
        pods.shelf().put("data", CLAIM, pods.holder)


def test_a_dump_is_written_by_the_launcher_and_named_by_the_agent(pods: Pods) -> None:
    (pods.path / "data/a.memory.dump").touch()
    file = pods.shelf().dump_file("data", pods.holder, "b.memory.dump")
    assert file.path == "/var/run/kubevirt/hotplug-disks/data.dump"
    as_launcher(pods, file.path, "w+b")
    assert [one.name for one in (pods.path / "data").iterdir()] == ["b.memory.dump.part"]
    again = pods.shelf().dump_file("data", pods.holder, "c.memory.dump")  # the agent before died over it
    as_launcher(pods, again.path, "w+b")
    os.write(again.descriptor, b"\x7fELF")
    pods.shelf().clear(())
    assert "data.dump" in pods.seen_mounts(), "it is no disk"
    again.keep()
    again.close()
    assert [one.name for one in (pods.path / "data").iterdir()] == ["c.memory.dump"]
    kept = pods.path / "data/c.memory.dump"
    assert (kept.read_bytes(), kept.stat().st_uid) == (b"\x7fELF", USER)
    assert "data.dump" not in pods.seen_mounts()
    assert not list(pods.shelf_folder.iterdir())


def block(pods: Pods) -> Path:
    """Give the attachment Pod a device in its files; return it."""
    (pods.path / "data").rmdir()
    os.mknod(pods.path / "data", stat.S_IFBLK | 0o600, LOOP)
    return pods.path / "data"


def test_a_device_comes_with_the_right_to_it_and_goes_with_it(pods: Pods) -> None:
    block(pods)
    pods.group(pods.holder_pid, "b 7:0 rwm")
    rights = pods.group(pods.launcher_pid)
    disk = pods.shelf().put("data", BLOCK, pods.holder)
    assert disk == DiskFile(Path("/var/run/kubevirt/hotplug-disks/data.dev"), "raw", block=True)
    info = (pods.shelf_folder / "data.dev").stat()
    assert (info.st_rdev, info.st_uid, stat.S_IMODE(info.st_mode)) == (LOOP, USER, 0o600)
    assert (rights / "devices.allow").read_text() == "b 7:0 rwm"
    pods.shelf().put("data", BLOCK, pods.holder)
    pods.shelf().clear({"data.dev"})
    assert not (rights / "devices.deny").exists()
    pods.shelf().clear(())
    assert (rights / "devices.deny").read_text() == "b 7:0 rwm"
    assert not list(pods.shelf_folder.iterdir())


@pytest.mark.parametrize("given", ["b 7:1 rwm", "b 7:0 m", "b 70:0 rwm", "c 7:0 rwm"])
def test_a_device_node_is_no_proof_of_a_device(pods: Pods, given: str) -> None:
    block(pods)
    pods.group(pods.holder_pid, given)
    rights = pods.group(pods.launcher_pid)
    with pytest.raises(UnsafePath, match="was not given"):
        pods.shelf().put("data", BLOCK, pods.holder)
    assert not (rights / "devices.allow").exists()
    assert not list(pods.shelf_folder.iterdir())


def test_a_file_is_no_device(pods: Pods) -> None:
    with pytest.raises(UnsafePath, match="not a block device"):
        pods.shelf().put("data", BLOCK, pods.holder)


def test_control_groups_of_version_2_take_no_device(pods: Pods) -> None:
    block(pods)
    with pytest.raises(AgentError, match="control groups of version 2"):
        pods.shelf().put("data", BLOCK, pods.holder)


def test_a_control_group_that_is_another_processs_is_not_changed(pods: Pods) -> None:
    block(pods)
    (pods.group(pods.holder_pid, "b 7:0 rwm") / "cgroup.procs").write_text("1\n")
    with pytest.raises(UnsafePath, match="is not found"):
        pods.shelf().put("data", BLOCK, pods.holder)


def test_the_newest_pod_that_runs_and_has_the_claim_counts(pods: Pods) -> None:
    old = pods.holder
    new = {**old, "metadata": {"name": "new", "uid": "n", "creationTimestamp": "2026-01-02T00:00:00Z"}}
    assert holder_of([new, old], "data", "c") is new
    assert told_of(new) == {"attachPodName": "new", "attachPodUID": "n"}
    assert holder_of([old], "data", "other") is None
    assert holder_of([old], "other", "c") is None
    assert holder_of([{**new, "status": {}}, old], "data", "c") is old
    leaving = {**new, "metadata": {**new["metadata"], "deletionTimestamp": "2026-01-02T00:00:00Z"}}
    assert holder_of([leaving, old], "data", "c") is old
    assert told_of(None) == {}
