"""Probes that fail and recover, asked of a real guest: by a port of it, and by a command in it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from polyvisor.cli.client import Client
from polyvisor.kube.errors import ApiError

from .agent_guest import IMAGE, add_image
from .guest_shell import VMIS, shell, true, until
from .standalone import Standalone, standalone

pytestmark = pytest.mark.e2e

EVENTS = "/api/v1/namespaces/default/events"
TIMES = {"periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": 2}
LATER = {**TIMES, "initialDelaySeconds": 40}
"""A guest that is still starting has no agent yet, which counts as a failure."""


def machine(name: str, **spec: Any) -> dict[str, Any]:
    container = {"image": IMAGE, "kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd.img"}
    domain = {
        "memory": {"guest": "128Mi"},
        "firmware": {"kernelBoot": {"kernelArgs": "console=ttyS0 quiet", "container": container}},
        "devices": {
            "interfaces": [{"name": "default", "masquerade": {}, "ports": [{"port": 7777}]}],
            "autoattachGraphicsDevice": False,
        },
    }
    body = {
        "hypervisor": {"driver": "qemu"},
        "terminationGracePeriodSeconds": 0,
        "domain": domain,
        "networks": [{"name": "default", "pod": {}}],
        **spec,
    }
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name},
        "spec": {"runStrategy": "Always", "template": {"metadata": {"labels": {"app": name}}, "spec": body}},
    }


@pytest.fixture(scope="module")
def home() -> Iterator[Standalone]:
    with standalone() as home:
        add_image(home.folder / "images")
        home.run("up")
        machines = [
            machine("porter", readinessProbe={"tcpSocket": {"port": 7777}, **TIMES}),
            machine("doer", livenessProbe={"exec": {"command": ["/bin/test", "!", "-e", "/run/dead"]}, **LATER}),
        ]
        file = home.folder / "machines.json"
        file.write_text("\n---\n".join(json.dumps(each) for each in machines))
        home.run("apply", "-f", file)
        try:
            yield home
        finally:
            home.run("down")


def running(client: Client, name: str, besides: str = "") -> str:
    """Wait until an instance, another one than ``besides``, runs; return its uid."""
    deadline = time.monotonic() + 120
    while True:
        try:
            found = client.get(f"{VMIS}/{name}")
        except ApiError:
            found = {"metadata": {"uid": besides}}
        uid = str(found["metadata"]["uid"])
        if uid != besides and (found.get("status") or {}).get("phase") == "Running":
            return uid
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


def reasons(client: Client, name: str) -> set[str]:
    return {e["reason"] for e in client.get(EVENTS)["items"] if e["involvedObject"]["name"] == name}


def test_readiness_follows_a_port_of_the_guest(client: Client) -> None:
    running(client, "porter")
    status = until(client, "porter", lambda s: "Readiness probe failed" in str(s.get("conditions")))
    (ready,) = [c for c in status["conditions"] if c["type"] == "Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "ContainersNotReady")
    with shell(client, "porter") as console:
        console.says("ip addr show eth0 | grep -q 10.0.2.15 || udhcpc -q -n -i eth0; echo on''line", rb"\nonline")
        console.type("(while :; do echo hello | nc -l -p 7777; done) >/dev/null 2>&1 & echo $! >/run/server")
        until(client, "porter", lambda s: true(s, "Ready"))
        console.type("kill $(cat /run/server); killall nc")
        until(client, "porter", lambda s: not true(s, "Ready"))
        console.type("(while :; do echo hello | nc -l -p 7777; done) >/dev/null 2>&1 &")
        until(client, "porter", lambda s: true(s, "Ready"))
    assert "Unhealthy" in reasons(client, "porter")
    assert "Killing" not in reasons(client, "porter")


def test_a_guest_that_fails_its_liveness_probe_is_started_again(client: Client) -> None:
    uid = running(client, "doer")
    until(client, "doer", lambda s: true(s, "AgentConnected"))
    with shell(client, "doer") as console:
        console.type("touch /run/dead")
        running(client, "doer", besides=uid)
    assert {"Unhealthy", "Killing"} <= reasons(client, "doer")
