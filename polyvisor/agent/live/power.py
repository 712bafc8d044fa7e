"""Taking a machine down: asked to power off, asked again, and destroyed at the deadline.

The deadline is a point in time that stands in an object (deletionTimestamp), so it holds across restarts of agent and
launcher. Asking is repeated, because a guest that is still booting does not hear the first call.
"""

from __future__ import annotations

import time

from polyvisor.agent.link.connection import LauncherError, LauncherGone, Link
from polyvisor.agent.live.status import seconds_of
from polyvisor.api import Obj
from polyvisor.api.names import DEFAULT_GRACE_PERIOD_SECONDS

ASK_AGAIN_SECONDS = 5.0


def vmi_deadline(vmi: Obj) -> float | None:
    """Return when a machine that is being deleted has to be down; None if it is not being deleted."""
    deleted = vmi["metadata"].get("deletionTimestamp")
    if not deleted:
        return None
    grace = vmi["spec"].get("terminationGracePeriodSeconds")
    return seconds_of(deleted) + (DEFAULT_GRACE_PERIOD_SECONDS if grace is None else grace)


def pod_deadline(pod: Obj) -> float | None:
    """Return when a Pod that is being deleted has to be gone: its deletionTimestamp, which holds the grace period."""
    deleted = pod["metadata"].get("deletionTimestamp")
    return seconds_of(deleted) if deleted else None


async def power_down(link: Link, deadline: float, *, graceful: bool) -> float:
    """Take one step towards a machine that is down; return the seconds after which to take the next."""
    left = deadline - time.time()
    if left <= 0 or not graceful:
        await link.request("destroy")
        return 1.0
    since = time.monotonic() - link.asked_at
    if link.asked_at and since < ASK_AGAIN_SECONDS:
        return max(0.05, min(ASK_AGAIN_SECONDS - since, left))
    try:
        if link.state.get("state") == "paused":
            await link.request("resume")
        await link.request("shutdown")
    except LauncherGone:
        raise
    except LauncherError:
        return min(1.0, left)  # the guest or libvirt is not ready to be asked
    link.asked_at = time.monotonic()
    return max(0.05, min(ASK_AGAIN_SECONDS, left))
