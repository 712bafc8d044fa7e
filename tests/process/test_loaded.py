"""What a component's process holds in memory from its start on."""

from __future__ import annotations

import subprocess
import sys

import pytest

NEVER = {"rich", "yaml", "typer", "jsonpatch", "cryptography"}
WHEN_IT_LEADS = {"pydantic", "polyvisor.drivers", "polyvisor.admission", "polyvisor.controllers.run"}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("polyvisor.controllers.process", NEVER | WHEN_IT_LEADS),
        ("polyvisor.controllers.operator", NEVER | WHEN_IT_LEADS),
        ("polyvisor.agent.process", {"rich", "yaml", "typer", "cryptography"}),
        ("polyvisor.server.process", {"rich", "yaml", "typer", "cryptography"}),
    ],
)
def test_a_process_loads_what_it_uses(module: str, absent: set[str]) -> None:
    look = f"import sys, {module}; from polyvisor.process.health import own_context; own_context(); "
    look += f"print(*sorted(set({sorted(absent)!r}) & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-P", "-c", look], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == []
