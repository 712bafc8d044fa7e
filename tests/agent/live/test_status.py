"""The statuses of launcher Pods that an agent writes in a kubelet's place."""

from __future__ import annotations

from polyvisor.agent.live.status import pod_ended, pod_refused
from polyvisor.api import Obj

POD: Obj = {"spec": {"containers": [{"name": "compute"}]}, "status": {"startTime": "2026-01-01T00:00:00Z"}}


def test_a_pod_ends_as_its_machine_did() -> None:
    for phase, code, reason in (("Succeeded", 0, "Completed"), ("Failed", 1, "Error")):
        status = pod_ended(POD, phase, "10.0.0.1")
        (container,) = status["containerStatuses"]
        ended = container["state"]["terminated"]
        assert (status["phase"], ended["exitCode"], ended["reason"]) == (phase, code, reason)
        assert ended["startedAt"] == "2026-01-01T00:00:00Z"


def test_a_pod_that_cannot_run_here_says_why() -> None:
    status = pod_refused(POD, "no containers here", "10.0.0.1")
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "Unsupported", "no containers here")
    assert status["containerStatuses"][0]["state"]["terminated"]["message"] == "no containers here"
