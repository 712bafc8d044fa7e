"""What virt-operator says of the components."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from polyvisor.controllers.kubevirt import status_of
from polyvisor.controllers.operator import missing

Obj = dict[str, Any]
AT = datetime(2026, 1, 1, tzinfo=UTC)


def part(spec: Obj, status: Obj, generation: int = 1) -> Obj:
    return {"metadata": {"generation": generation}, "spec": spec, "status": {"observedGeneration": 1} | status}


@pytest.mark.parametrize(
    ("kind", "obj", "said"),
    [
        ("Deployment", None, "Deployment x is not there"),
        ("Deployment", part({"replicas": 2}, {"readyReplicas": 2}), ""),
        ("Deployment", part({"replicas": 2}, {"readyReplicas": 1}), "Deployment x has 1 of 2 Pods ready"),
        ("Deployment", part({"replicas": 2}, {}), "Deployment x has 0 of 2 Pods ready"),
        ("Deployment", part({"replicas": 2}, {"readyReplicas": 2}, 2), "Deployment x is being changed"),
        ("DaemonSet", part({}, {"desiredNumberScheduled": 3, "numberReady": 3}), ""),
        ("DaemonSet", part({}, {"desiredNumberScheduled": 3, "numberReady": 2}), "DaemonSet x has 2 of 3 Pods ready"),
    ],
)
def test_what_a_component_lacks(kind: str, obj: Obj | None, said: str) -> None:
    assert missing(kind, "x", obj) == said


def test_the_cluster_is_ready_when_nothing_lacks() -> None:
    kubevirt: Obj = {"metadata": {"generation": 4}}
    first = status_of(kubevirt, AT, ["Deployment virt-api is not there", "DaemonSet virt-handler is not there"])
    said = {one["type"]: (one["status"], one["reason"]) for one in first["conditions"]}
    assert first["phase"] == "Deploying"
    assert said["Created"] == ("True", "AllResourcesCreated")
    assert said["Available"] == ("False", "DeploymentInProgress")
    assert said["Progressing"] == said["Degraded"] == ("True", "DeploymentInProgress")
    message = next(one["message"] for one in first["conditions"] if one["type"] == "Available")
    assert message == "Deployment virt-api is not there; DaemonSet virt-handler is not there"
    assert "observedKubeVirtVersion" not in first
    then = status_of(kubevirt | {"status": first}, AT, [])
    said = {one["type"]: (one["status"], one["reason"]) for one in then["conditions"]}
    assert said["Available"] == ("True", "AllComponentsReady")
    assert said["Progressing"] == said["Degraded"] == ("False", "AllComponentsReady")
    assert (then["phase"], then["observedGeneration"]) == ("Deployed", 4)
    later = status_of(kubevirt | {"status": then}, AT, ["DaemonSet virt-handler has 0 of 1 Pods ready"])
    assert later["phase"] == "Deployed"
