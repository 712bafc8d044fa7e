"""Doing work in one replica at a time, by a Lease.

The others stand by and are as ready as the leader, since readiness says that a process can do its part. A leader that
has lost its Lease ends: what its controllers knew is worth nothing then, and a fresh process is a clean candidate.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from polyvisor.kube import KubeClient
from polyvisor.kube.leader import LeaderElection, LostLease, Timing, identity
from polyvisor.process import running


def lease_options(parser: argparse.ArgumentParser) -> None:
    """Add what :func:`leading` reads."""
    parser.add_argument("--identity", default="", help="name of this replica; by default the Pod's")
    parser.add_argument("--lease-seconds", type=float, default=Timing().lease, help="how long the Lease holds")


async def leading(
    client: KubeClient,
    options: argparse.Namespace,
    lease: str,
    work: Callable[[], Coroutine[Any, Any, None]],
    changed: Callable[[bool], None] = lambda _: None,
    loads: Sequence[str] = (),
) -> None:
    """Wait for the Lease of that name, then work until cancelled; ``changed`` is told when this replica leads or not.

    ``loads`` are the modules of the work, which are loaded once the Lease can be had.

    Raises :class:`~polyvisor.process.running.Restart` when the Lease is lost.
    """
    seconds = options.lease_seconds
    election = LeaderElection(
        client,
        running.namespace_of(options),
        lease,
        me=options.identity or identity(),
        timing=Timing(seconds, seconds * 2 / 3, seconds * 2 / 15),
        changed=changed,
        prepare=lambda: running.load(*loads),
    )
    try:
        await election.run(work)
    except LostLease as lost:
        raise running.Restart(str(lost)) from lost
