"""One machine in a launcher Pod that is asked everything which can be asked: its probes, its agent, its streams."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from polyvisor.cli.client import Client
from polyvisor.cli.streams import options
from polyvisor.cli.websocket import Websocket
from polyvisor.kube.config import from_kubeconfig
from tests.e2e.agent_guest import IMAGE, add_image
from tests.e2e.guest_shell import shell, true, until
from tests.e2e.installation import eventually
from tests.e2e.nodes import TOP, NodesCluster
from tests.e2e.test_usbredir import greeting

from .machines import SECONDS, Obj, get, pod_of

pytestmark = pytest.mark.e2e
INSTANCE = "/apis/subresources.kubevirt.io/v1/namespaces/default/virtualmachineinstances/asked"
PORT = 8080
TIMES = {"periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": 2}
LATER = {**TIMES, "initialDelaySeconds": 30, "failureThreshold": 10}
"""A guest that is still starting has no agent yet, which counts as a failure."""
KEYS = ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFirst first", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAISecond second")


def secret(name: str, **data: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})


def machine() -> Obj:
    paths = {"kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd.img"}
    container = {"image": IMAGE, "imagePullPolicy": "Never", **paths}
    by_agent: Obj = {"qemuGuestAgent": {"users": ["root"]}}
    key = {"source": {"secret": {"secretName": "asked-keys"}}, "propagationMethod": by_agent}
    first = {"source": {"secret": {"secretName": "asked-seed"}}, "propagationMethod": {"configDrive": {}}}
    password = {"source": {"secret": {"secretName": "asked-words"}}, "propagationMethod": {"qemuGuestAgent": {}}}
    spec = {
        "hypervisor": {"driver": "qemu"},
        "terminationGracePeriodSeconds": 0,
        "domain": {
            "memory": {"guest": "160Mi"},
            "firmware": {"kernelBoot": {"kernelArgs": "console=ttyS0 quiet", "container": container}},
            "devices": {
                "interfaces": [{"name": "default", "masquerade": {}, "ports": [{"port": PORT}]}],
                "disks": [{"name": "seed", "disk": {"bus": "virtio"}}],
                "clientPassthrough": {},
                "tpm": {},
            },
        },
        "networks": [{"name": "default", "pod": {}}],
        "volumes": [{"name": "seed", "cloudInitConfigDrive": {"userData": "#cloud-config"}}],
        "accessCredentials": [{"sshPublicKey": key}, {"sshPublicKey": first}, {"userPassword": password}],
        "readinessProbe": {"httpGet": {"port": PORT, "path": "/ready"}, **TIMES},
        "livenessProbe": {"exec": {"command": ["/bin/test", "!", "-e", "/run/dead"]}, **LATER},
    }
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "asked"},
        "spec": {"runStrategy": "Always", "template": {"metadata": {"labels": {"app": "asked"}}, "spec": spec}},
    }


@pytest.fixture(scope="module")
def nodes(pods: NodesCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodesCluster]:
    folder = tmp_path_factory.mktemp("agent")
    shutil.copytree(TOP / "build" / "images", folder / "images")
    add_image(folder / "images")
    with tarfile.open(folder / "images.tar", "w") as tar:
        tar.add(folder / "images", ".")
    pods.nodes[0].load(folder / "images.tar")
    service = {"selector": {"app": "asked"}, "ports": [{"port": 80, "targetPort": PORT}]}
    head = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "asked"}}
    objects = [
        secret("asked-keys", key=KEYS[0]),
        secret("asked-seed", key=KEYS[0]),
        secret("asked-words", root="new-word"),
    ]
    for text in (*objects, json.dumps({**head, "spec": service}), json.dumps(machine())):
        pods.kubectl("apply", "--filename=-", stdin=text)
    yield pods
    pods.kubectl("delete", "vm", "asked", "--wait=true", "--timeout=100s")


@pytest.fixture(scope="module")
def client(nodes: NodesCluster) -> Client:
    return Client(from_kubeconfig(Path(nodes.kubeconfig)))


@pytest.fixture(scope="module")
def running(client: Client) -> Obj:
    """Return the machine's status, once its guest's agent answers."""
    eventually(partial(there, client), SECONDS)
    return until(client, "asked", lambda status: true(status, "AgentConnected"), SECONDS)


def there(client: Client) -> bool:
    path = "/apis/kubevirt.io/v1/namespaces/default/virtualmachineinstances"
    return any(vmi["metadata"]["name"] == "asked" for vmi in client.get(path)["items"])


def endpoints(nodes: NodesCluster) -> list[bool]:
    """Return which endpoints the machine's Service has, each whether it is ready."""
    slices = get(nodes, "endpointslices", "--selector=kubernetes.io/service-name=asked")["items"]
    return [bool(one["conditions"].get("ready")) for part in slices for one in part.get("endpoints") or []]


def opened(client: Client, path: str) -> Websocket:
    url, arguments = options(client, f"{INSTANCE}/{path}", 20)
    return Websocket(url, **arguments)


def test_a_service_follows_the_readiness_probe(nodes: NodesCluster, client: Client, running: Obj) -> None:
    status = until(client, "asked", lambda s: "Readiness probe failed" in str(s["conditions"]))
    assert not true(status, "Ready")
    assert endpoints(nodes) == [False]
    with shell(client, "asked") as console:
        console.says("mkdir -p /w; echo yes >/w/ready; httpd -p 8080 -h /w; echo serv''ing", rb"serving")
        until(client, "asked", lambda s: true(s, "Ready"))
        eventually(lambda: endpoints(nodes) == [True], SECONDS)
        console.says("mv /w/ready /w/page; echo mo''ved", rb"moved")
        status = until(client, "asked", lambda s: not true(s, "Ready"))
        assert "statuscode: 404" in str(status["conditions"])
        eventually(lambda: endpoints(nodes) == [False], SECONDS)
        console.says("cp /w/page /w/ready; echo b''ack", rb"back")
        eventually(lambda: endpoints(nodes) == [True], SECONDS)


def test_credentials_are_set_by_the_agent_and_follow_their_secret(
    nodes: NodesCluster, client: Client, running: Obj
) -> None:
    until(client, "asked", lambda status: true(status, "AccessCredentialsSynchronized"))
    with shell(client, "asked") as console:
        console.says("cat /root/.ssh/authorized_keys", rb"\n" + KEYS[0].encode())
        console.says("cat /run/passwords", rb"root:new-word")
        nodes.kubectl("apply", "--filename=-", stdin=secret("asked-keys", key=KEYS[1]))
        # a kubelet looks at a Pod's Secrets when something of the Pod changes, else within a minute or two
        nodes.kubectl("annotate", "pod", pod_of(nodes, "asked")["metadata"]["name"], "looked=at")
        console.says(
            "until grep -q second /root/.ssh/authorized_keys; do sleep 0.5; done; cat /root/.ssh/authorized_keys",
            rb"\n" + KEYS[1].encode(),
        )


def test_the_agent_tells_of_its_guest(nodes: NodesCluster, client: Client, running: Obj) -> None:
    told = client.get(f"{INSTANCE}/guestosinfo")
    assert told["os"]["prettyName"] == "Polyvisor Demo 1 (agent)"
    assert client.get(f"{INSTANCE}/userlist")["items"] == []
    assert client.get(f"{INSTANCE}/filesystemlist")["items"] == []
    for action in ("freeze", "unfreeze"):
        client.request("PUT", f"{INSTANCE}/{action}", {})
    log = nodes.kubectl("logs", pod_of(nodes, "asked")["metadata"]["name"], "--container=compute")
    assert "file systems are frozen" in log
    assert "file systems go on" in log


def test_what_it_was_given(client: Client, running: Obj) -> None:
    with shell(client, "asked") as console:
        console.says("[ -e /sys/bus/acpi/devices/MSFT0101:00 ] && echo tp''m", rb"tpm")
        console.says("mkdir -p /d; mount -o ro $(findfs LABEL=config-2) /d; echo moun''ted", rb"mounted")
        console.says(
            "grep -o 'AAA[A-Za-z0-9]*' /d/openstack/latest/meta_data.json", rb"\n" + KEYS[0].split()[1].encode()
        )


def test_its_streams(nodes: NodesCluster, client: Client, running: Obj, tmp_path: Path) -> None:
    with opened(client, "vnc") as screen:
        assert screen.recv(timeout=20).startswith(b"RFB 003.008")
    nodes.polyvisor("vnc", "screenshot", "asked", "-f", tmp_path / "shot.png")
    assert (tmp_path / "shot.png").read_bytes().startswith(b"\x89PNG")
    with opened(client, f"portforward/{PORT}") as port:
        port.send(b"GET /page HTTP/1.0\r\n\r\n")
        heard = b""
        while not heard.endswith(b"yes\n"):
            heard += port.recv(timeout=20)
    with opened(client, "usbredir") as usb:
        assert b"qemu usb-redir guest" in greeting(usb)


def test_a_guest_that_fails_its_liveness_probe_is_started_again(
    nodes: NodesCluster, client: Client, running: Obj
) -> None:
    def uid() -> str:
        found = nodes.kubectl("get", "vmi", "asked", "--output=jsonpath={.metadata.uid}", "--ignore-not-found")
        return str(found)

    before = uid()
    until(client, "asked", lambda status: true(status, "AgentConnected"))
    with shell(client, "asked") as console:
        console.type("touch /run/dead")
        eventually(lambda: uid() not in ("", before), SECONDS)
    found = get(nodes, "events", "--field-selector=involvedObject.name=asked")["items"]
    assert {"Unhealthy", "Killing"} <= {event["reason"] for event in found}
