"""What the benchmark of a cluster counts and shows, without a cluster."""

from __future__ import annotations

import json
import os
from pathlib import Path

from bench.cluster import Figures, Kept, section
from bench.cluster.audit import writes
from bench.cluster.processes import cpu_by_program
from bench.cluster.sightings import Sightings
from bench.cluster.summary import summary_rows


def entry(user: str, verb: str, resource: str, subresource: str = "", code: int = 200) -> str:
    what = {"resource": resource, **({"subresource": subresource} if subresource else {})}
    return json.dumps({"user": {"username": user}, "verb": verb, "objectRef": what, "responseStatus": {"code": code}})


def test_writes_are_those_of_the_systems_own_accounts() -> None:
    ours, handler = "system:serviceaccount:kubevirt:kubevirt-controller", "system:serviceaccount:kubevirt:handler"
    log = [
        entry(ours, "create", "pods"),
        entry(ours, "create", "events"),
        entry(ours, "update", "leases"),
        entry(handler, "patch", "nodes"),
        entry(handler, "patch", "virtualmachineinstances"),
        entry(handler, "patch", "virtualmachineinstances", code=409),
        entry("system:node:node1", "patch", "pods", "status"),
        entry("system:serviceaccount:kube-system:job-controller", "create", "pods"),
    ]
    assert writes(log, "kubevirt") == {
        ("kubevirt-controller", "create pods"): 1,
        ("handler", "patch virtualmachineinstances"): 1,
        ("handler", "patch virtualmachineinstances 409"): 1,
    }


def test_the_cpu_time_of_this_process_is_found() -> None:
    assert sum(cpu_by_program().values()) > sum(os.times()[:2]) / 2


def test_the_first_sight_of_a_state_counts() -> None:
    seen = Sightings()
    vmi = {"metadata": {"name": "a"}, "status": {"phase": "Running"}}
    seen.vmi_changed(None, vmi)
    first = seen.seen["a"]["Running"]
    seen.vmi_changed(vmi, vmi)
    pod = {"metadata": {"name": "virt-launcher-a", "uid": "u", "ownerReferences": [{"name": "a"}]}, "spec": {}}
    seen.pod_changed(None, pod)
    seen.pod_changed(pod, None)
    assert seen.seen["a"]["Running"] == first
    assert seen.pods == {"a": "u"}
    assert {"Pod made", "Pod gone"} < set(seen.seen["a"])
    assert "Pod bound" not in seen.seen["a"]


def figures(system: str, seconds: float) -> Figures:
    found = Figures(system)
    found.starts = {"kernel": [{"Running": seconds, "gone": 1.0}] * 3}
    found.floors = {"Pod": [0.8], "virsh": [0.4]}
    found.burst = {"machine 1": 1.0, "machine 2": 3.0, "cpu etcd": 2.5, "deleted": 4.0}
    found.memory = {"1": {"polyvisor.launcher": 18.0}}
    found.writes = {"VirtualMachine, start": {"kubevirt-controller: create pods": 1.0}}
    found.idle, found.idle_seconds = {"virt-api-1 polyvisor.server 12": [1.0, 2.0, 60.0]}, 90.0
    return found


def test_two_systems_stand_side_by_side(tmp_path: Path) -> None:
    figures("Another", 5.0).write(tmp_path / "another.json")
    text = section([figures("Polyvisor", 2.0), Figures.read(tmp_path / "another.json")], "")
    assert "| state | Polyvisor, kernel from an image | Another, kernel from an image |" in text
    assert "| Running | 2.00 (2.00 to 2.00) | 5.00 (5.00 to 5.00) |" in text
    assert "| kernel from an image: above both (goal: at most 1.0) | 0.80 | 3.80 |" in text
    assert "| Polyvisor | virt-api-1 polyvisor.server | 2.00 | 2.0 | 60 |" in text, "brought to 180 s"


def test_the_figures_with_goals_come_first() -> None:
    rows = {row[0]: row[1:] for row in summary_rows([figures("Polyvisor", 2.0), Figures("Another")])}
    assert rows[""] == ["Polyvisor", "Another", "goal"]
    assert rows["s to Running, kernel from an image, median"] == ["2.00", "", "half of KubeVirt's"]
    assert rows["20 with firmware alone at once, p95, s"][0] == "1.0"
    assert rows["CPU seconds of the whole machine for these 20"][0] == "2.5"
    assert rows["MiB beside the hypervisor, one machine"][0] == "18.0"
    assert rows["writes until a VirtualMachine runs"][0] == "1.0"
    assert rows["idle control plane, CPU seconds in 180 s"][0] == "2.0"
    assert "s to Running, firmware alone, median" not in rows


def test_figures_are_kept_step_by_step(tmp_path: Path) -> None:
    path = tmp_path / "build" / "own.json"
    first = Kept(path, "Polyvisor")
    first.figures.floors["Pod"] = [0.5]
    first.done("starts")
    second = Kept(path, "Polyvisor")
    second.figures.burst["deleted"] = 2.0
    second.done("burst")
    found = Figures.read(path)
    assert (found.floors, found.burst) == ({"Pod": [0.5]}, {"deleted": 2.0})
    assert set(found.measured) == {"starts", "burst"}
    assert f"on {found.measured['burst'].partition(' ')[0]}" in section([found], "")


def test_parts_that_were_not_measured_leave_empty_tables() -> None:
    assert "## In a cluster" in section([Figures("Polyvisor")], "")
