"""libvirt is opened on one CPU, and nothing stays there."""

from __future__ import annotations

import os
import threading

from polyvisor.launcher.steady import on_one_cpu


def test_all_threads_have_all_cpus_again() -> None:
    allowed = os.sched_getaffinity(0)
    seen: list[set[int]] = []
    go_on = threading.Event()

    def work() -> None:
        seen.append(os.sched_getaffinity(0))
        go_on.wait(30)
        seen.append(os.sched_getaffinity(0))

    with on_one_cpu():
        assert os.sched_getaffinity(0) == {min(allowed)}
        thread = threading.Thread(target=work)
        thread.start()
    assert os.sched_getaffinity(0) == allowed
    go_on.set()
    thread.join()
    assert seen[-1] == allowed
