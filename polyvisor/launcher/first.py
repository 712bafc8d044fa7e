"""Being the first process of a container without being in the way: orphans are buried, signals are passed on.

libvirt asks a hypervisor what it can do by a daemon, which becomes an orphan, and waits for it to vanish once it has
ended it. The first process of a container is every orphan's parent, and an ended one vanishes only if its parent
asks how it ended. A launcher cannot do that itself: it would take away what libvirt asks of its own children.
"""

from __future__ import annotations

import os
import signal


def step_aside() -> None:
    """Return in a child if this is the first process; the first then ends as the child does."""
    if os.getpid() != 1:
        return
    child = os.fork()
    if not child:
        return
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
