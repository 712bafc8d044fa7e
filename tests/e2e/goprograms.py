"""Programs in Go that tests speak to, built from the modules below ``tests/e2e/tools`` and kept outside the tree.

A program is built again only when its module changed; Go checks every dependency against the module's ``go.sum``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parent / "tools"


def cache() -> Path:
    """Return the folder of built programs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "polyvisor" / "e2e-tools"


def program(module: str) -> Path:
    """Return the program of a module, built if need be; skips the test where there is no Go."""
    source = TOOLS / module
    digest = hashlib.sha256()
    for path in sorted(source.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    built = cache() / f"{module}-{digest.hexdigest()[:16]}"
    if built.exists():
        return built
    if shutil.which("go") is None:
        pytest.skip(f"{module} is written in Go, which is not installed (Debian: golang-go 1.25 or newer)")
    sys.stderr.write(f"building {module} (about a minute and a half the first time)\n")
    built.parent.mkdir(parents=True, exist_ok=True)
    scratch = built.with_suffix(f".{os.getpid()}")
    subprocess.run(["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", scratch, "."], cwd=source, check=True)
    scratch.replace(built)
    return built
