"""A client that others wrote for KubeVirt, from PyPI, drives a machine unchanged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .standalone import Standalone, standalone

pytestmark = [pytest.mark.e2e, pytest.mark.proof]

CLIENT = "openshift-python-wrapper==11.0.143"
PLACE = Path.home() / ".cache" / "polyvisor" / "other-client"
SECONDS = 300


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter of an environment of the client's own, made once and kept outside the tree."""
    folder = PLACE / CLIENT
    if not (folder / "whole").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", CLIENT], check=True)
        (folder / "whole").touch()
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def home() -> Iterator[Standalone]:
    with standalone() as home:
        home.run("up")
        try:
            yield home
        finally:
            home.run("down")


def test_a_machine_is_made_started_held_restarted_stopped_and_deleted(home: Standalone, python: Path) -> None:
    script = Path(__file__).with_name("other_client.py")
    done = subprocess.run([python, script, home.kubeconfig], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line.removeprefix("SAID ") for line in done.stdout.splitlines() if line.startswith("SAID ")] == [
        "made",
        "started Running Running",
        "held Paused",
        "restarted True",
        "stopped Stopped",
        "gone True",
    ]
