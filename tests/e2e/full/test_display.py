"""The screen of the whole Debian: a picture of it, and someone who types there, joined by the websocket."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyvisor.cli.client import Client
from tests.e2e.screen import Picture, Viewer, picture, screen
from tests.e2e.standalone import Standalone

from .machines import Way

pytestmark = [pytest.mark.e2e, pytest.mark.proof]

LETTER = (8, 16)
"""The width and height of a letter on a text console, in pixels, at least."""


def test_a_screenshot_is_what_a_viewer_sees(home: Standalone, client: Client, full: str, tmp_path: Path) -> None:
    file = tmp_path / "shot.png"
    with screen(client, full) as websocket:
        viewer = Viewer(websocket)
        seen = viewer.until(lambda shown: len(shown.lit()) >= 2 * LETTER[1] // 2)
        home.run("vnc", "screenshot", full, "-f", file)
    columns, rows = picture(file.read_bytes()).unlike(seen)
    assert len(columns) <= LETTER[0] + 1, "nothing differs but a cursor that blinks"
    assert len(rows) <= LETTER[1]


def test_what_is_typed_on_the_screen_is_seen_there_and_done(client: Client, full: str, ssh: Way) -> None:
    with screen(client, full) as websocket:
        viewer = Viewer(websocket)
        before = viewer.until(lambda shown: len(shown.lit()) >= 2 * LETTER[1] // 2)
        viewer.type("debian")

        def typed(shown: Picture) -> bool:
            columns, rows = shown.unlike(before)
            return len(columns) > 4 * LETTER[0] and len(rows) <= LETTER[1]

        viewer.until(typed)
        viewer.type("\n")
        answered = viewer.until(lambda shown: len(shown.unlike(before)[1]) > LETTER[1])
        viewer.type("from-a-secret\n")
        viewer.until(lambda shown: len(shown.unlike(answered)[1]) > LETTER[1])
        ssh.until(full, "who", lambda said: "debian   tty1" in said)
        viewer.type("touch typed\n")
        ssh.until(full, "ls", lambda said: "typed" in said)
        viewer.type("exit\n")
        ssh.until(full, "who", lambda said: "tty1" not in said)
