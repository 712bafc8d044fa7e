"""What a launcher does before anything else: it becomes who it is to be, and what its place demands of it.

Being the first process of a container, it is the parent of every orphaned process and has to reap them.

libvirt probes a hypervisor with a daemon, which is orphaned, and waits until it has vanished once it has been killed;
a process vanishes only when its parent reaps it. What isn't obvious: libvirt's threads wait for the children that they
forked, so those must not be reaped here. The kernel hands orphans to the main thread, which never forks itself, and
with ``__WNOTHREAD`` (include/uapi/linux/wait.h) a thread reaps its own children alone.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

WNOTHREAD = 0x20000000


def become_owner(folder: Path) -> None:
    """Give up root's rights for good if the launcher's folder is another user's. All modules have to be there before.

    The interpreter and this package may lie where that user has no way to.
    """
    owner = folder.stat()
    if os.geteuid() == 0 and owner.st_uid:
        os.setgroups([])
        os.setresgid(owner.st_gid, owner.st_gid, owner.st_gid)
        os.setresuid(owner.st_uid, owner.st_uid, owner.st_uid)


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
