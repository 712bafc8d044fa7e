"""Words of guests and hosts reach a terminal as text alone."""

from __future__ import annotations

import json

import pytest

from polyvisor.cli.output import Output, note, print_structured, say

HOSTILE = "a\x1b]52;c;Y3VybA==\x07\x9b2J\x7f\tb"


def test_a_terminal_obeys_nothing_of_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    note(HOSTILE)
    out, err = capsys.readouterr()
    assert out == err == "a?]52;c;Y3VybA==??2J?\tb\n"


@pytest.mark.parametrize("output", [Output.JSON, Output.YAML])
def test_structured_output_keeps_every_character_in_a_form_that_is_printed(
    capsys: pytest.CaptureFixture[str], output: Output
) -> None:
    print_structured({"name": HOSTILE, "umlaut": "ü"}, output)
    text = capsys.readouterr().out
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "ü" in text
    if output == Output.JSON:
        assert json.loads(text)["name"] == HOSTILE
