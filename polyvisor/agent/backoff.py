"""The agent's back-off for machines, DataVolumes and Pods that failed."""

from __future__ import annotations

from polyvisor.kube.backoff import Backoff, Retries

BACKOFF = Backoff(base=1.0, cap=60.0, jitter=0.0)
"""Without jitter: one agent tries again, not many."""


class StepBackoff(Retries[str]):
    """Failures by key, left alone for 1, 2, 4 ... 60 seconds."""

    def __init__(self) -> None:
        super().__init__(BACKOFF)
