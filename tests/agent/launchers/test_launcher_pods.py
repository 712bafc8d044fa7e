"""A Pod that only says that it is a machine's launcher is none; what it plants is neither followed nor waited for."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from polyvisor.agent.errors import AgentError, UnsafePath
from polyvisor.agent.files import safepath
from polyvisor.agent.launchers.launcher_pods import marked, recorded
from polyvisor.agent.platform import pod_node
from polyvisor.agent.platform.pod_node import PodNode
from polyvisor.agent.storage.making import Inputs, prepare
from polyvisor.agent.storage.prepared import prepared
from polyvisor.drivers import DriverRegistry

from ..conftest import PlainDriver

Obj = dict[str, Any]
UID, POD = "11111111-0000-4000-8000-000000000001", "22222222-0000-4000-8000-000000000002"


def machine(**status: Any) -> Obj:
    metadata = {"name": "m", "namespace": "default", "uid": UID}
    return {"metadata": metadata, "spec": {"domain": {"devices": {}}}, "status": {"phase": "Scheduled", **status}}


def launcher(**changes: Any) -> Obj:
    owner = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "uid": UID, "controller": True}
    metadata = {
        "name": "virt-launcher-m",
        "namespace": "default",
        "uid": POD,
        "labels": {"kubevirt.io": "virt-launcher", "kubevirt.io/created-by": UID},
        "annotations": {"hypervisor.kubevirt.io/driver": "plain"},
        "ownerReferences": [owner],
    }
    status = {"phase": "Running", "containerStatuses": [{"name": "compute", "state": {"running": {}}}]}
    return {"metadata": {**metadata, **changes}, "spec": {"nodeName": "n1"}, "status": status}


@pytest.mark.parametrize("node", ["n1", ""], ids=["after it was bound", "before it was bound"])
def test_the_controllers_record_makes_a_launcher(node: str) -> None:
    assert recorded(launcher(), machine(activePods={POD: node}))


def test_a_pod_without_a_node_is_no_launcher_yet() -> None:
    assert not recorded(launcher() | {"spec": {}}, machine(activePods={POD: ""}))


OTHER = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "uid": "other", "controller": True}
FOREIGN = {"apiVersion": "example.org/v1", "kind": "VirtualMachineInstance", "uid": UID, "controller": True}


@pytest.mark.parametrize(
    "changes",
    [
        {"namespace": "elsewhere"},
        {"labels": {}},
        {"labels": {"kubevirt.io": "virt-launcher", "kubevirt.io/created-by": "other"}},
        {"ownerReferences": [OTHER]},
        {"ownerReferences": [FOREIGN]},
        {"ownerReferences": []},
    ],
)
def test_what_lacks_a_mark_is_no_launcher(changes: Obj) -> None:
    pod = launcher(**changes)
    assert not marked(pod, machine())
    assert not recorded(pod, machine(activePods={POD: "n1"}))


@pytest.mark.parametrize("active", [{}, {"another": "n1"}, {POD: "n2"}])
def test_what_is_not_recorded_for_its_node_is_no_launcher(active: Obj) -> None:
    assert not recorded(launcher(), machine(activePods=active))


class Shelf:
    """An informer with one object."""

    def __init__(self, obj: Obj) -> None:
        self.obj = obj

    def on_change(self, _: Any) -> None:
        """Nothing changes."""

    def by_index(self, *_: str) -> list[Obj]:
        return [self.obj]

    def items(self) -> list[Obj]:
        return [self.obj]


class Launchers:
    """Notes what is done with a Pod."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def get(self, _: str) -> None:
        return None

    def known(self, _: str) -> Obj:
        return {}

    def is_made(self, _: str) -> bool:
        return True

    def listens(self, _: str) -> bool:
        return True

    def write_plan(self, id_: str, *_: Any, **__: Any) -> None:
        self.done.append("plan")

    async def ensure(self, id_: str) -> None:
        self.done.append("connect")
        raise OSError("seen")


@pytest.mark.parametrize(("active", "done"), [({}, []), ({POD: "n1"}, ["plan", "connect"])])
async def test_a_pod_that_the_controller_did_not_record_gets_no_plan_and_no_connection(
    active: Obj, done: list[str]
) -> None:
    launchers = Launchers()
    await node_of(launchers, launcher(), machine(activePods=active)).reconcile("id")
    assert launchers.done == done


def node_of(launchers: Launchers, pod: Obj, vmi: Obj) -> PodNode:
    registry = DriverRegistry([PlainDriver()])
    return PodNode(*cast("Any", (None, registry, launchers, Shelf(pod), Shelf(vmi))), look=lambda _: None)


async def test_a_launcher_gets_its_plan_before_the_kubelet_tells_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pod = launcher()
    pod["status"] = {"phase": "Pending"}
    launchers = Launchers()
    node = node_of(launchers, pod, machine(phase="Scheduling", activePods={POD: ""}))
    assert await node.reconcile("id") == pod_node.BRISK_PAUSE
    assert launchers.done == ["plan", "connect"]
    monkeypatch.setattr(pod_node, "BRISK_SECONDS", 0.0)
    assert await node.reconcile("id") is None, "an image that does not come is not waited for with the clock"
    pod["status"] = launcher()["status"]
    assert (await node.reconcile("id") or 0) >= 1.0


def test_a_pipe_in_place_of_what_was_made_ready_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "disks").mkdir()
    os.mkfifo(tmp_path / "disks/prepared.json")
    found: list[object] = []

    def read() -> None:
        try:
            found.append(prepared(tmp_path))
        except AgentError as error:
            found.append(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(10)
    assert [type(one) for one in found] == [UnsafePath]


@pytest.mark.parametrize("place", ["disks.tmp", "disks"])
def test_a_link_in_the_machines_folder_is_replaced_and_what_it_leads_to_is_left_alone(
    tmp_path: Path, make_vmi: Callable[..., Obj], place: str
) -> None:
    folder, host = tmp_path / "machine", tmp_path / "host"
    folder.mkdir()
    host.mkdir()
    (folder / place).symlink_to(host)
    vmi = make_vmi({"name": "data", "emptyDisk": {"capacity": "1Mi"}})
    prepare(vmi, PlainDriver(), folder, cast("Any", Here()), Inputs(), workshop=tmp_path / "plugins/polyvisor")
    assert list(host.iterdir()) == []
    assert not (folder / "disks").is_symlink()
    assert (folder / "disks").is_dir()


def test_a_container_that_swaps_folders_meanwhile_gets_no_file_of_the_node_written(
    tmp_path: Path, make_vmi: Callable[..., Obj]
) -> None:
    folder, host = tmp_path / "machine", tmp_path / "host"
    folder.mkdir()
    host.mkdir()

    class Swapping(Here):
        def sources(self, *arguments: Any) -> Any:
            if (folder / "disks.tmp").exists():
                (folder / "disks.tmp").rmdir()
            (folder / "disks.tmp").symlink_to(host)
            return super().sources(*arguments)

    vmi = make_vmi({"name": "data", "emptyDisk": {"capacity": "1Mi"}})
    prepare(vmi, PlainDriver(), folder, cast("Any", Swapping()), Inputs(), workshop=tmp_path / "plugins/polyvisor")
    assert list(host.iterdir()) == []


class Here:
    """Sources of which only the folder's name is asked."""

    home = Path("/machine")
    owner = None

    def sources(self, *_: Any) -> Any:
        return self

    def __enter__(self) -> Any:
        return copy.copy(self)

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""


def test_no_link_on_the_way_to_a_root_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real/inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for path in (tmp_path / "link", tmp_path / "link/inner"):
        with pytest.raises(UnsafePath, match="symbolic link"), safepath.opened_root(path):
            pass
    with safepath.opened_root(tmp_path / "real/inner") as root:
        assert os.listdir(root) == []  # noqa: PTH208
