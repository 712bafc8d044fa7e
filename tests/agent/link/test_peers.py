from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from polyvisor.agent.link import containers
from polyvisor.agent.link.peers import address_of, connect, peer_of, stranger

POD = "6f0c6d0e-3d1b-4a53-9d6b-0e8a2d3c4b5a"
OTHER = POD.replace("6f0c", "7f0c")
PATH = Path(f"/pods/{POD}/volumes/kubernetes.io~empty-dir/polyvisor/launcher.sock")


def put(folder: Path, pid: int, groups: str) -> None:
    (folder / str(pid)).mkdir()
    (folder / str(pid) / "cgroup").write_text(groups)


@pytest.mark.parametrize(
    ("groups", "ours"),
    [
        (f"12:memory:/kubepods/burstable/pod{POD}/abc\n0::/kubepods/burstable/pod{POD}/abc\n", True),
        (f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD.replace('-', '_')}.slice/x\n", True),
        (f"0::/kubepods/pod{POD}\n", True),
        (f"0::/kubepods/burstable/pod{OTHER}/abc\n", False),
        (f"0::/user/x{POD}\n", False),
        (f"0::/kubepods/pod{POD}0/abc\n", False),
        ("0::/\n", False),
        ("", False),
    ],
)
def test_a_process_belongs_to_the_pod_that_its_control_group_names(
    groups: str, ours: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "PROC", tmp_path)
    put(tmp_path, 7, groups)
    assert (stranger(PATH, 7, 107) == "") is ours


def test_a_process_that_cannot_be_seen_is_not_believed() -> None:
    assert "process ids" in stranger(PATH, 0, 0)
    assert "not of Pod" in stranger(PATH, os.getpid(), 0)


def test_elsewhere_the_user_counts() -> None:
    path = Path("/var/lib/polyvisor/l/0123456789ab/launcher.sock")
    assert stranger(path, 5, os.geteuid()) == ""
    assert "user 4711" in stranger(path, 5, 4711)


def test_a_long_path_is_no_obstacle_and_a_link_is_not_followed(tmp_path: Path) -> None:
    real = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(real))
        listener.listen()
        deep = tmp_path / ("d" * 120)
        deep.mkdir()
        os.link(real, deep / "s")
        with address_of(deep / "s") as address, socket.socket(socket.AF_UNIX) as peer:
            peer.connect(address)
        (deep / "link").symlink_to(real)
        (deep / "file").write_text("")
        for name in ("link", "file", "nothing"):
            with pytest.raises(OSError), address_of(deep / name):  # noqa: PT011
                pass


async def test_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        first = [await connect(tmp_path / "s") for _ in range(2)]
        third = asyncio.create_task(connect(tmp_path / "s"))
        await asyncio.sleep(0)
        assert not third.done()
        listener.accept()[0].close()
        async with asyncio.timeout(10):
            connection = await third
        assert peer_of(connection)[0] == os.getpid()
        for one in (*first, connection):
            one.close()
