"""Memory that libvirt needed for a start alone, given back to the system.

libvirt reads all that it knows of a hypervisor as one XML document and frees it again. What isn't obvious: the C
library keeps what was freed between two blocks that are in use, for good, which is 3 MiB of each launcher.
"""

from __future__ import annotations

import ctypes

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""Of glibc alone."""


def give_back() -> None:
    """Give back what is free; takes about a millisecond."""
    if _trim is not None:
        _trim(0)
