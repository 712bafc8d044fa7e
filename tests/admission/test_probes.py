from __future__ import annotations

from typing import Any

import pytest

from polyvisor.admission.probes import validate
from polyvisor.admission.values import Findings

Obj = dict[str, Any]
POD = [{"name": "default", "pod": {}}]


def fields(kind: str, probe: Obj, networks: Any = POD) -> dict[str, str]:
    found = Findings()
    validate({kind: probe, "networks": networks}, "spec", found)
    return {problem.field.removeprefix("spec."): problem.message for problem in found.problems}


@pytest.mark.parametrize(
    "probe",
    [
        {"httpGet": {"port": 80}},
        {"httpGet": {"port": "8080", "path": "/a?b=c", "httpHeaders": [{"name": "X-A", "value": "b c"}]}},
        {"tcpSocket": {"port": 22}, "initialDelaySeconds": 0, "periodSeconds": 5, "failureThreshold": 1},
        {"exec": {"command": ["true"]}},
        {"guestAgentPing": {}, "successThreshold": 1},
    ],
)
def test_good_probes(probe: Obj) -> None:
    assert fields("readinessProbe", probe) == {}
    assert fields("livenessProbe", probe) == {}


@pytest.mark.parametrize(
    ("probe", "field"),
    [
        ({}, ""),
        ({"tcpSocket": {"port": 1}, "exec": {"command": ["x"]}}, ".exec"),
        ({"tcpSocket": {"port": 0}}, ".tcpSocket.port"),
        ({"tcpSocket": {"port": 65536}}, ".tcpSocket.port"),
        ({"tcpSocket": {"port": "ssh"}}, ".tcpSocket.port"),
        ({"tcpSocket": {"port": 1, "host": "10.0.0.1"}}, ".tcpSocket.host"),
        ({"httpGet": {"port": 1, "host": "169.254.169.254"}}, ".httpGet.host"),
        ({"httpGet": {"port": 1, "path": "/a b"}}, ".httpGet.path"),
        ({"httpGet": {"port": 1, "path": "/\r\nX: y"}}, ".httpGet.path"),
        ({"httpGet": {"port": 1, "httpHeaders": [{"name": "A:", "value": ""}]}}, ".httpGet.httpHeaders[0].name"),
        ({"httpGet": {"port": 1, "httpHeaders": [{"name": "A", "value": "\n"}]}}, ".httpGet.httpHeaders[0].value"),
        ({"exec": {"command": []}}, ".exec.command"),
        ({"guestAgentPing": {}, "timeoutSeconds": -1}, ".timeoutSeconds"),
        ({"guestAgentPing": {}, "periodSeconds": 10**6}, ".periodSeconds"),
    ],
)
def test_bad_probes_are_refused_where_they_are_bad(probe: Obj, field: str) -> None:
    assert set(fields("readinessProbe", probe)) == {f"readinessProbe{field}"}


def test_a_liveness_probe_succeeds_at_once() -> None:
    probe = {"guestAgentPing": {}, "successThreshold": 2}
    assert fields("readinessProbe", probe) == {}
    assert set(fields("livenessProbe", probe)) == {"livenessProbe.successThreshold"}


def test_ports_need_a_network() -> None:
    assert (
        "joins no Pod network" in fields("livenessProbe", {"tcpSocket": {"port": 1}}, None)["livenessProbe.tcpSocket"]
    )
    assert fields("livenessProbe", {"guestAgentPing": {}}, None) == {}
