from __future__ import annotations

import pytest

from polyvisor.cli.app import run
from polyvisor.cli.commands_refused import REFUSED


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_not_there_says_what_to_do_instead(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "vm", "demo", "--whatever=x", "-f", "y"]) == 2
    said = capsys.readouterr().err
    assert said == f"polyvisor: virtctl's {name} is not implemented by Polyvisor: {REFUSED[name]}\n"
