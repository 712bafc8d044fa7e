"""What a launcher Pod has of its node to itself: huge pages, and a CPU that the kubelet gave it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.huge_pages import MIB, count, set_aside
from tests.e2e.installation import eventually
from tests.e2e.nodes import NodesCluster

from .machines import KERNEL, SECONDS, get, gone, machine, pod_of, why

pytestmark = [pytest.mark.e2e, pytest.mark.proof]

PAGES = 48
NAME = "own"
STATE = "/var/lib/kubelet/cpu_manager_state"
STATIC = {"cpuManagerPolicy": "static", "systemReserved": {"cpu": "500m"}}


def restart(nodes: NodesCluster, **more: Any) -> None:
    """Give the kubelet other settings; its notes on CPUs are those of another policy then."""
    (node,) = nodes.nodes
    file = node.folder / "kubelet.yaml"
    settings = {key: value for key, value in yaml.safe_load(file.read_text()).items() if key not in STATIC}
    node.stop("kubelet")
    eventually(lambda: not any("kubelet.yaml" in one for one in node.processes()), SECONDS)
    node.run("rm", "-f", STATE)
    file.write_text(yaml.safe_dump(settings | more))
    node.start("kubelet")


def node_of(nodes: NodesCluster) -> dict[str, Any]:
    return get(nodes, "node", nodes.nodes[0].name)


@pytest.fixture
def own(pods: NodesCluster) -> Iterator[NodesCluster]:
    with set_aside(PAGES):
        restart(pods, **STATIC)
        try:
            labelled = lambda: node_of(pods)["metadata"]["labels"].get("cpumanager") == "true"  # noqa: E731
            eventually(labelled, SECONDS, lambda: pods.nodes[0].tail("kubelet") + json.dumps(node_of(pods)))
            eventually(lambda: node_of(pods)["status"]["allocatable"].get("hugepages-2Mi", "0") != "0", SECONDS)
            yield pods
        finally:
            restart(pods)
            eventually(lambda: node_of(pods)["metadata"]["labels"].get("cpumanager") == "false", SECONDS)


def qemu(nodes: NodesCluster) -> Path:
    """Return the folder of the hypervisor's process, as the host counts."""
    found = [p for p in (nodes.nodes[0].root / "proc").glob("[0-9]*/cmdline") if f"guest=default_{NAME}" in _text(p)]
    return found[0].parent


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def test_a_machine_has_its_pages_and_its_cpu(own: NodesCluster) -> None:
    free = count("free")
    domain = {
        "memory": {"guest": f"{PAGES * MIB}Mi", "hugepages": {"pageSize": "2Mi"}},
        "cpu": {"cores": 1, "dedicatedCpuPlacement": True},
        "firmware": {"kernelBoot": {"kernelArgs": "console=ttyS0", "container": KERNEL}},
    }
    own.kubectl("apply", "-f-", stdin=machine(NAME, "qemu", {}, [], **domain))
    eventually(
        lambda: get(own, "vmi", NAME).get("status", {}).get("phase") == "Running", SECONDS, lambda: why(own, NAME)
    )

    pod = pod_of(own, NAME)
    assert pod["status"]["qosClass"] == "Guaranteed"
    asked = pod["spec"]["containers"][0]["resources"]["requests"]
    assert (asked["cpu"], asked["hugepages-2Mi"]) == ("1", f"{PAGES * MIB}Mi")

    process = qemu(own)
    held = re.search(r"HugetlbPages:\s+(\d+) kB", (process / "status").read_text())
    assert held
    assert int(held[1]) == PAGES * MIB * 1024
    assert count("free") <= free - PAGES
    allowed = {
        (task / "comm").read_text().strip(): re.findall(r"Cpus_allowed_list:\s+(\S+)", (task / "status").read_text())
        for task in (process / "task").iterdir()
    }
    (cpu,) = next(cpus for name, cpus in allowed.items() if name.startswith("CPU 0/"))
    given = json.loads(own.nodes[0].run("cat", STATE).stdout)
    assert given["entries"][pod["metadata"]["uid"]]["compute"] == cpu
    assert cpu.isdigit(), "one CPU"
    gone(own, "vmi", NAME)
    eventually(lambda: count("free") >= free, SECONDS)
