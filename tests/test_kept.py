"""What tests keep of probes: the newest answers, and nothing of a probe that is running."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import kept


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def found(folder: Path, driver: str, answer: str) -> Path:
    """An agent's folder after a probe."""
    (folder / driver / "warm").mkdir(parents=True, exist_ok=True)
    (folder / driver / kept.ANSWER).write_text(answer)
    (folder / driver / "warm" / "capabilities.xml").write_text(answer)
    return folder


def test_the_next_installation_begins_with_the_newest_answers(tmp_path: Path) -> None:
    kept.recall_probes(tmp_path / "first")
    assert not (tmp_path / "first").exists()
    for answer in ("old", "new"):
        kept.keep_probes(found(tmp_path / "agent", "one", answer))
    kept.recall_probes(tmp_path / "next")
    assert (tmp_path / "next/one" / kept.ANSWER).read_text() == "new"
    assert (tmp_path / "next/one/warm/capabilities.xml").read_text() == "new"


def test_a_probe_without_an_answer_leaves_the_last_one(tmp_path: Path) -> None:
    kept.keep_probes(found(tmp_path / "agent", "one", "old"))
    (tmp_path / "another/one/t").mkdir(parents=True)
    kept.keep_probes(tmp_path / "another")
    found(tmp_path / "agent", "one", "new")
    (tmp_path / "agent/one/t").mkdir()
    kept.keep_probes(tmp_path / "agent")
    kept.recall_probes(tmp_path / "next")
    assert (tmp_path / "next/one" / kept.ANSWER).read_text() == "new"
    assert not (tmp_path / "next/one/t").exists()


def test_other_code_has_found_out_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.keep_probes(found(tmp_path / "agent", "one", "old"))
    drivers = tmp_path / "tree/polyvisor/drivers"
    drivers.mkdir(parents=True)
    (drivers / "one.py").write_text("changed")
    monkeypatch.setattr(kept, "TOP", tmp_path / "tree")
    kept.recall_probes(tmp_path / "next")
    assert not (tmp_path / "next").exists()
