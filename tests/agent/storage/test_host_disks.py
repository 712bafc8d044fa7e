"""Host disks: a namespace's own, and no more of them than there may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyvisor.agent.errors import AgentError
from polyvisor.agent.storage import disks
from polyvisor.agent.storage.sources import NodeSources, Places

from ..conftest import Make

MIB = 1024 * 1024


def test_a_namespaces_host_disks_are_its_own(places: Places, make_vmi: Make) -> None:
    source = {"path": "shared.img", "type": "DiskOrCreate"}
    vmi = make_vmi()
    seen: list[Path] = []
    for namespace in ("one", "two"):
        vmi["metadata"]["namespace"] = namespace
        with NodeSources(places, vmi, Path("/home"), print, {}) as sources:
            seen.append(sources.host_disk("d", source, MIB).path)
    assert seen == [places.hostdisks / "one/shared.img", places.hostdisks / "two/shared.img"]
    seen[0].write_bytes(b"secret")
    vmi["metadata"]["namespace"] = "two"
    for path in ("../one/shared.img", str(seen[0])):
        with NodeSources(places, vmi, Path("/home"), print, {}) as sources, pytest.raises(AgentError):
            sources.host_disk("d", {"path": path}, 0)


def test_host_disks_have_a_limit(tmp_path: Path) -> None:
    root = tmp_path / "one"
    disks.host_disk(root, "a/first.img", "DiskOrCreate", 3 * MIB, limit=4 * MIB)
    with pytest.raises(AgentError, match=r"may have 4194304 bytes on this node, and there are 3145728 already"):
        disks.host_disk(root, "second.img", "DiskOrCreate", 2 * MIB, limit=4 * MIB)
    disks.host_disk(root, "second.img", "DiskOrCreate", MIB, limit=4 * MIB)
    disks.host_disk(root, "a/first.img", "DiskOrCreate", 3 * MIB, limit=MIB)  # one that is there stays


def test_no_host_disk_is_larger_than_the_file_system(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="host disks of a namespace may have"):
        disks.host_disk(tmp_path, "big.img", "DiskOrCreate", 1 << 50)
    assert list(tmp_path.iterdir()) == []


def test_a_host_disks_path_is_no_maze(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="33 folders deep; 32 are accepted"):
        disks.host_disk(tmp_path, f"{'a/' * 32}disk.img", "DiskOrCreate", MIB)
    assert list(tmp_path.iterdir()) == []
    disks.host_disk(tmp_path, f"{'a/' * 31}disk.img", "DiskOrCreate", MIB)
