"""What a launcher loads, since each machine pays for it in memory."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("asyncio", "dataclasses", "inspect", "logging", "subprocess")
"""Modules of the standard library that cost 0.5 to 2 MiB each."""


def test_no_heavy_module_is_loaded() -> None:
    code = "import sys, polyvisor.launcher.__main__; print(*(set(sys.argv[1:]) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []
