"""Opening libvirt on one and the same CPU.

libvirt writes down what the host's processor says of itself, and believes what it found before only if that is the
same to the letter. What isn't obvious: a processor may name in its answer the CPU that was asked (leaf 1Fh, EDX), and
libvirt 9.0 takes that for a part of the model; then about every launcher but those on the probe's own CPU would try the
hypervisor anew, for seconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def on_one_cpu() -> Iterator[None]:
    """Have this thread, and those that are begun meanwhile, run on the first CPU allowed; afterwards on all again."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        for task in Path("/proc/self/task").iterdir():
            with suppress(OSError):  # it has ended
                os.sched_setaffinity(int(task.name), allowed)
