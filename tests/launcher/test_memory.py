from __future__ import annotations

import os
import subprocess
import sys

BLOCKS = """
import sys
from polyvisor.launcher.memory import give_back

def anonymous():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Anonymous:"))

blocks = [bytes(2000) for _ in range(20_000)]
kept = blocks[::100]
del blocks
before = anonymous()
give_back()
print(before - anonymous())
"""


def test_what_was_freed_between_blocks_in_use_is_given_back() -> None:
    environment = {**os.environ, "PYTHONMALLOC": "malloc"}
    command = [sys.executable, "-c", BLOCKS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environment)
    assert int(done.stdout) > 20_000, "KiB of the 40 MB that are free"
