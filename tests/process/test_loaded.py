"""What a component's process holds in memory from its start on."""

from __future__ import annotations

import subprocess
import sys

import pytest

NOWHERE = {"rich", "yaml", "typer", "cryptography", "click", "multiprocessing.context", "httpcore._async.http2"}
NEVER = NOWHERE | {"jsonpatch", "websockets", "h2"}
WHEN_IT_LEADS = {"pydantic", "polyvisor.drivers", "polyvisor.admission", "polyvisor.controllers.run"}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("polyvisor.controllers.process", NEVER | WHEN_IT_LEADS),
        ("polyvisor.controllers.operator", NEVER | WHEN_IT_LEADS),
        ("polyvisor.agent.process", NOWHERE),
        ("polyvisor.server.process", NOWHERE | {"h2"}),
    ],
)
def test_a_process_loads_what_it_uses(module: str, absent: set[str]) -> None:
    look = f"import sys, {module}; from polyvisor.process.health import own_context; own_context(); "
    look += "import httpx; httpx.AsyncClient(verify=False); "
    look += f"print(*sorted(name for name in {sorted(absent)!r} if sys.modules.get(name)))"
    done = subprocess.run([sys.executable, "-P", "-c", look], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == []
