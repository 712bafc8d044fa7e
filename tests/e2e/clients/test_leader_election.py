"""Leader election as controllers in Go have it: client-go's, by a Lease, with protobuf as the form of its bodies.

The program is Kubernetes' own controller manager, which here leads and does nothing else.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from tests.e2e.goprograms import NoGo, program
from tests.e2e.standalone import Standalone

pytestmark = [pytest.mark.e2e, pytest.mark.proof]

LEASE = "elected"
OPTIONS = (
    *("--kube-api-content-type=application/vnd.kubernetes.protobuf", "--secure-port=0", "-v=4"),
    *("--controllers=bootstrap-signer-controller", "--leader-elect", "--leader-elect-resource-namespace=default"),
    *(f"--leader-elect-resource-name={LEASE}", "--leader-elect-lease-duration=6s", "--leader-elect-renew-deadline=4s"),
    "--leader-elect-retry-period=1s",
)
SECONDS = 180.0
"""How long one that never leads is waited for."""
Process = subprocess.Popen[str]


@contextmanager
def candidate(home: Standalone, folder: Path) -> Iterator[Process]:
    folder.mkdir()
    try:
        path = program("kube-controller-manager")
    except NoGo as error:
        pytest.fail(str(error))
    command = [path, f"--kubeconfig={home.kubeconfig}", *OPTIONS]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=folder) as process:
        patience = Timer(SECONDS, process.kill)
        patience.start()
        try:
            yield process
        finally:
            patience.cancel()
            process.kill()


def said(process: Process, words: str) -> None:
    """Read what a process writes until it says some words."""
    assert process.stderr
    lines = []
    for line in process.stderr:
        lines.append(line)
        if words in line:
            return
    pytest.fail(f"it ended before {words!r}:\n{''.join(lines[-20:])}")


def lease(home: Standalone) -> dict[str, Any]:
    return dict(json.loads(home.run("get", "lease", LEASE, "-o", "json"))["spec"])


def test_another_one_leads_when_the_leader_is_gone(home: Standalone, tmp_path: Path) -> None:
    with candidate(home, tmp_path / "first") as first:
        said(first, "Successfully acquired lease")
        before = lease(home)
        with candidate(home, tmp_path / "second") as second:
            said(second, "Attempting to acquire leader lease")
            first.kill()
            said(second, "Successfully acquired lease")
            after = lease(home)
    assert before["holderIdentity"] != after["holderIdentity"]
    assert after["leaseTransitions"] == before["leaseTransitions"] + 1
    events = json.loads(home.run("get", "events", "-o", "json"))["items"]
    told = [str(event.get("message")) for event in events if event.get("reason") == "LeaderElection"]
    for one in (before, after):
        assert f"{one['holderIdentity']} became leader" in told
