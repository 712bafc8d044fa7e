"""Being the first process of a container: it is the parent of every orphaned process and has to reap them.

libvirt probes a hypervisor with a daemon, which is orphaned, and waits until it has vanished once it has been killed;
a process vanishes only when its parent reaps it. What isn't obvious: libvirt's threads wait for the children that they
forked, so those must not be reaped here. The kernel hands orphans to the main thread, which never forks itself, and
with ``__WNOTHREAD`` (include/uapi/linux/wait.h) a thread reaps its own children alone.
"""

from __future__ import annotations

import os
import signal

WNOTHREAD = 0x20000000


def reap_orphans() -> None:
    """Reap orphaned processes from now on, if this is the first process. Call on the main thread."""
    if os.getpid() == 1:
        signal.signal(signal.SIGCHLD, lambda *_: _reap())


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG | WNOTHREAD)[0]:
            pass
    except ChildProcessError:
        return
