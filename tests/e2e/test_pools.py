"""A pool of real guests, standalone: made, scaled, brought up to date and removed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from polyvisor.cli.client import Client

from .guest_shell import shell
from .standalone import Standalone, bare_machine, standalone

pytestmark = pytest.mark.e2e

POOLS = "/apis/pool.kubevirt.io/v1beta1/namespaces/default/virtualmachinepools"
VMIS = "/apis/kubevirt.io/v1/namespaces/default/virtualmachineinstances"
MERGE = "application/merge-patch+json"


def pool(memory: str, **spec: Any) -> dict[str, Any]:
    labels = {"app": "web"}
    inner = bare_machine("x", memory={"guest": memory})["spec"]
    template = {"runStrategy": "Always", "template": {"metadata": {"labels": labels}, "spec": inner}}
    return {
        "apiVersion": "pool.kubevirt.io/v1beta1",
        "kind": "VirtualMachinePool",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "maxUnavailable": 1,
            "selector": {"matchLabels": labels},
            "scaleInStrategy": {"proactive": {"selectionPolicy": {"sortPolicy": "DescendingOrder"}}},
            "virtualMachineTemplate": {"metadata": {"labels": labels}, "spec": template},
            **spec,
        },
    }


@pytest.fixture(scope="module")
def home() -> Iterator[Standalone]:
    with standalone() as home:
        home.run("up")
        try:
            yield home
        finally:
            home.run("down")


def awaited(look: Callable[[], Any], holds: Callable[[Any], bool], seconds: float = 180) -> Any:
    deadline = time.monotonic() + seconds
    while not holds(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    return found


def apply(home: Standalone, obj: dict[str, Any]) -> None:
    path = home.folder / "pool.json"
    path.write_text(json.dumps(obj))
    home.run("apply", "-f", path)


def memory(client: Client, name: str) -> int:
    """Return the kB of memory that a guest counts."""
    with shell(client, name) as console:
        return int(console.says("grep MemTotal /proc/meminfo", rb"MemTotal: +([0-9]+) kB")[1])


def test_a_pool_of_guests(home: Standalone, client: Client) -> None:
    def status() -> dict[str, Any]:
        found: dict[str, Any] = client.get(f"{POOLS}/web").get("status") or {}
        return found

    def instances() -> dict[str, str]:
        return {one["metadata"]["name"]: one["metadata"]["uid"] for one in client.get(VMIS)["items"]}

    apply(home, pool("128Mi"))
    awaited(status, lambda found: (found.get("replicas"), found.get("readyReplicas")) == (2, 2))
    first = instances()
    assert sorted(first) == ["web-0", "web-1"]
    before = {name: memory(client, name) for name in first}
    assert "web" in home.run("get", "vmpool")

    apply(home, pool("192Mi"))
    awaited(instances, lambda found: sorted(found) == sorted(first) and not set(found.values()) & set(first.values()))
    awaited(status, lambda found: found.get("readyReplicas") == 2)
    for name in first:
        assert memory(client, name) > before[name] + 50_000

    scale = client.request("PATCH", f"{POOLS}/web/scale", {"spec": {"replicas": 1}}, content_type=MERGE)
    assert scale["spec"]["replicas"] == 1
    awaited(instances, lambda found: list(found) == ["web-0"])
    awaited(status, lambda found: (found["replicas"], found["readyReplicas"]) == (1, 1))

    home.run("delete", "vmpool", "web")
    awaited(instances, lambda found: not found)


def test_a_pool_with_a_broken_template_leaves_nothing(home: Standalone, client: Client) -> None:
    broken = pool("128Mi")
    broken["spec"]["virtualMachineTemplate"]["spec"]["template"]["spec"]["domain"]["devices"]["disks"] = [
        {"name": "gone", "disk": {}}
    ]
    path = home.folder / "broken.json"
    path.write_text(json.dumps(broken))
    with pytest.raises(AssertionError, match=r"virtualMachineTemplate\.spec\.template\.spec\.domain\.devices\.disks"):
        home.run("apply", "-f", path)
    assert client.get(POOLS)["items"] == []
    assert client.get(VMIS)["items"] == []
