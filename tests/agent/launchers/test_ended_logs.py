"""The logs of machines that are over."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID

import pytest

from polyvisor.agent.launchers import ended_logs
from polyvisor.agent.launchers.ended_logs import EndedLogs

ONE, OTHER = str(UUID(int=1)), str(UUID(int=2))


def launcher(root: Path, **logs: str) -> Path:
    folder = root / "l" / "launcher"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_text("{}")
    for name, text in logs.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def test_logs_are_kept_by_domain_and_nothing_else_is(tmp_path: Path) -> None:
    kept = EndedLogs(tmp_path / "ended")
    kept.keep(launcher(tmp_path, console_log="hello", console_log_1="before", launcher_log="up"), ONE)
    found = {path.name: path.read_text() for path in kept.folder(ONE).iterdir()}
    assert found == {"console.log": "hello", "console.log.1": "before", "launcher.log": "up"}
    assert not kept.folder(OTHER).exists()


def test_the_next_end_replaces_what_was_kept_of_the_one_before(tmp_path: Path) -> None:
    kept = EndedLogs(tmp_path / "ended")
    kept.keep(launcher(tmp_path, console_log="first"), ONE)
    kept.keep(launcher(tmp_path, launcher_log="the second did not start"), ONE)
    assert [path.name for path in kept.folder(ONE).iterdir()] == ["launcher.log"]


def test_only_the_newest_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ended_logs, "MOST", 2)
    kept = EndedLogs(tmp_path / "ended")
    for number in range(3):
        uuid = str(UUID(int=number))
        kept.keep(launcher(tmp_path, console_log="x"), uuid)
        os.utime(kept.folder(uuid), (number, number))
    kept.keep(launcher(tmp_path, console_log="x"), str(UUID(int=3)))
    assert sorted(entry.name for entry in (tmp_path / "ended").iterdir()) == [str(UUID(int=n)) for n in (2, 3)]


def test_a_folder_is_named_by_a_uuid_alone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="UUID"):
        EndedLogs(tmp_path / "ended").folder("../l/other")
