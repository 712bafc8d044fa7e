"""KubeVirt's own client, unchanged, at a machine in a launcher Pod: what it does through a real API server."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import pytest

from polyvisor.cli.client import Client
from polyvisor.kube.config import from_kubeconfig
from tests.e2e.goprograms import program
from tests.e2e.guest_shell import true, until
from tests.e2e.installation import eventually
from tests.e2e.nodes import NodesCluster
from tests.e2e.test_virtctl import Virtctl, terminal

from .machines import SECONDS, gone
from .test_networks import fetch, machine

pytestmark = [pytest.mark.e2e, pytest.mark.proof]
NAME = "spoken-to"


def test_a_machine_is_talked_to_looked_at_held_and_exposed(pods: NodesCluster) -> None:
    virtctl, client = Virtctl(program("virtctl"), Path(pods.kubeconfig)), Client(from_kubeconfig(Path(pods.kubeconfig)))
    manifest = machine(NAME, {"masquerade": {}})
    del manifest["spec"]["domain"]["devices"]["autoattachGraphicsDevice"]
    pods.kubectl("apply", "-f-", stdin=json.dumps(manifest))
    until(client, NAME, lambda status: status.get("phase") == "Running", SECONDS)
    with terminal(virtctl, NAME) as says:
        says(b"\n", b"login: ")
        says(b"root\n", b"# ")
        says(b"until ip -4 address show eth0 | grep inet; do sleep 0.2; done; echo he''re\n", b"\nhere")
        says(b"mkdir -p /w; echo page >/w/index.html; httpd -p 8080 -h /w; echo serv''ing\n", b"\nserving")
        says(b"exit\n", b"login: ")
    with virtctl.running("port-forward", "--stdio=true", f"vmi/{NAME}", "8080") as way:
        assert way.stdin
        assert way.stdout
        way.stdin.write("GET /index.html HTTP/1.0\r\n\r\n")
        way.stdin.flush()  # and it stays open: virtctl leaves when its input ends, whatever is still to come
        assert "page\n" in way.stdout
    with virtctl.running("vnc", NAME, "--proxy-only", stderr=subprocess.DEVNULL) as proxy:
        assert proxy.stdout
        port = json.loads(proxy.stdout.readline())["port"]
        with socket.create_connection(("127.0.0.1", port), 10) as viewer:
            viewer.settimeout(60)
            assert viewer.recv(12) == b"RFB 003.008\n"
    virtctl("pause", "vmi", NAME)
    until(client, NAME, lambda status: true(status, "Paused"))
    virtctl("unpause", "vmi", NAME)
    until(client, NAME, lambda status: not true(status, "Paused"))
    virtctl("expose", "vmi", NAME, f"--name={NAME}", "--port=80", "--target-port=8080")
    service = json.loads(pods.kubectl("get", "service", NAME, "-o", "json"))["spec"]
    eventually(lambda: fetch(pods, service["clusterIP"], 80) == "page\n", seconds=120)
    pods.kubectl("delete", "service", NAME)
    gone(pods, "vmi", NAME)
