"""One suite against both API servers, the embedded one of ``polyvisor up`` and a real Kubernetes with Polyvisor in it.

What is wrong with a manifest is told alike, word for word; and kubectl does its daily work on both.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from polyvisor.api.resources import KUBEVIRTS, REPLICA_SETS, VMIS, VMS, Resource
from polyvisor.kube import ApiError, KubeClient
from tests.e2e.cluster import KUBECTL
from tests.e2e.goprograms import NoGo
from tests.e2e.installation import eventually, installed
from tests.needs import unmet
from tests.server.test_webhooks import replica_set, vm, vmi

pytestmark = pytest.mark.e2e
Obj = dict[str, Any]
POLYVISOR = Path(sys.executable).with_name("polyvisor")
NAMES = ("standalone", "cluster")


class Server:
    """An API server, by its kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        done = subprocess.run(
            [KUBECTL, f"--kubeconfig={self.kubeconfig}", *arguments],
            capture_output=True,
            text=True,
            input=stdin,
            timeout=120,
            env={**os.environ, "HOME": str(self.kubeconfig.parent)},
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout + (done.stderr if not check else "")

    def refused(self, resource: Resource, obj: Obj) -> ApiError:
        async def create() -> None:
            async with KubeClient.from_kubeconfig(self.kubeconfig) as client:
                await client.create(resource, obj)

        with pytest.raises(ApiError) as error:
            asyncio.run(create())
        return error.value


@contextmanager
def standalone() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="pvb", dir="/tmp"))

    def polyvisor(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [POLYVISOR, f"--state-dir={folder}", *arguments], capture_output=True, text=True, timeout=300
        )

    try:
        up = polyvisor("up")
        assert up.returncode == 0, up.stderr
        yield Server(folder / "kubeconfig")
    finally:
        polyvisor("down")
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Server]]:
    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(installed()).cluster
            found = Server(cluster.kubeconfig)
        except NoGo as missing:
            unmet(str(missing))
        # host disks, which are off in a cluster unless enabled, so that the rest is told alike
        gates = {"spec": {"configuration": {"developerConfiguration": {"featureGates": ["HostDisk"]}}}}
        cluster.kubectl("patch", "kubevirt", "kubevirt", "-n", "kubevirt", "--type=merge", "-p", json.dumps(gates))
        yield {"standalone": stack.enter_context(standalone()), "cluster": found}


@pytest.fixture(params=NAMES)
def server(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Server:
    return servers[request.param]


MEMORY = {"guest": "64Mi"}


def domain(**more: Any) -> Obj:
    """An instance whose domain is this."""
    return vmi(domain={"devices": {}, "memory": MEMORY} | more)


def devices(**more: Any) -> Obj:
    return domain(devices=more)


def chosen(hypervisor: Any, **more: Any) -> Obj:
    root = {"name": "root", "containerDisk": {"image": "localhost/root:1"}}
    return vmi(hypervisor=hypervisor, domain={"devices": {}, "memory": MEMORY} | more, volumes=[root])


def template(**spec: Any) -> Obj:
    return vm(template={"spec": vmi(**spec)["spec"]})


def disks(*names: str, volumes: Any = None, **first: Any) -> Obj:
    found = [{"name": name, "disk": {}} for name in names]
    found[0] |= first
    given = [{"name": name, "emptyDisk": {"capacity": "1Gi"}} for name in dict.fromkeys(names)]
    return vmi(domain={"devices": {"disks": found}, "memory": MEMORY}, volumes=given if volumes is None else volumes)


def kubevirt(**configuration: Any) -> Obj:
    metadata = {"name": "another", "namespace": "default"}
    spec = {"configuration": configuration}
    return {"apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", "metadata": metadata, "spec": spec}


BAD: dict[str, tuple[Resource, Obj, str, str]] = {
    "unknown field": (VMIS, vmi(nodeSelektor={}), "spec.nodeSelektor", "did you mean nodeSelector"),
    "unknown field deep down": (VMIS, devices(disk=[]), "spec.domain.devices.disk", "did you mean disks"),
    "unknown field in a template": (VMS, template(hostnam="x"), "spec.template.spec.hostnam", "did you mean hostname"),
    "a text for a number": (VMIS, domain(cpu={"cores": "two"}), "spec.domain.cpu.cores", "an integer is wanted"),
    "a number for a text": (VMIS, vmi(hostname=7), "spec.hostname", "a string is wanted"),
    "a text for a boolean": (
        VMIS,
        devices(autoattachSerialConsole="yes"),
        "spec.domain.devices.autoattachSerialConsole",
        "true or false is wanted",
    ),
    "an object for a list": (VMIS, vmi(volumes={"a": "b"}), "spec.volumes", "a list is wanted"),
    "a list for an object": (VMIS, domain(cpu=[]), "spec.domain.cpu", "an object is wanted"),
    "a value that is none": (VMIS, disks("a", cache="fast"), "spec.domain.devices.disks[0].cache", "accepted"),
    "no domain": (VMIS, {**vmi(), "spec": {}}, "spec.domain", "required"),
    "unknown driver": (VMIS, chosen({"driver": "quemu"}), "spec.hypervisor.driver", "did you mean qemu"),
    "an alias for a driver": (VMIS, chosen({"driver": "kvm"}), "spec.hypervisor.driver", "driver qemu with virtType"),
    "driver and anyOf": (
        VMIS,
        chosen({"driver": "qemu", "anyOf": ["lxc"]}),
        "spec.hypervisor.anyOf",
        "exclude each other",
    ),
    "anyOf of none": (VMIS, chosen({"anyOf": []}), "spec.hypervisor.anyOf", "at least one driver"),
    "anyOf with one twice": (VMIS, chosen({"anyOf": ["lxc", "lxc"]}), "spec.hypervisor.anyOf[1]", "already"),
    "a virtType of another driver": (
        VMIS,
        chosen({"driver": "lxc", "virtType": "kvm"}),
        "spec.hypervisor.virtType",
        "accepted: lxc: lxc",
    ),
    "a feature that the driver lacks": (
        VMIS,
        chosen({"driver": "lxc"}, devices={"tpm": {}}),
        "spec.domain.devices.tpm",
        "with LXC",
    ),
    "features that no driver of anyOf has": (
        VMIS,
        chosen({"anyOf": ["lxc", "openvz"]}, devices={"watchdog": {"name": "w", "i6300esb": {"action": "reset"}}}),
        "spec.domain.devices.watchdog.i6300esb",
        "supported by",
    ),
    "a quantity that is none": (VMIS, domain(memory={"guest": "lots"}), "spec.domain.memory.guest", "lots"),
    "a quantity below nothing": (
        VMIS,
        disks("a", volumes=[{"name": "a", "emptyDisk": {"capacity": -1}}]),
        "spec.volumes[0].emptyDisk.capacity",
        "such as 1Gi",
    ),
    "two disks of a name": (VMIS, disks("a", "a"), "spec.domain.devices.disks[1].name", "already"),
    "a disk without its volume": (VMIS, disks("a", volumes=[]), "spec.domain.devices.disks[0].name", "no volume"),
    "a volume without a source": (VMIS, disks("a", volumes=[{"name": "a"}]), "spec.volumes[0]", "a source is wanted"),
    "a volume with two": (
        VMIS,
        disks("a", volumes=[{"name": "a", "emptyDisk": {"capacity": "1Gi"}, "containerDisk": {"image": "x"}}]),
        "spec.volumes[0]",
        "exclude each other",
    ),
    "a path out of its folder": (
        VMIS,
        disks("a", volumes=[{"name": "a", "hostDisk": {"path": "/x/../../etc/shadow", "type": "Disk"}}]),
        "spec.volumes[0].hostDisk.path",
        "..",
    ),
    "a disk that is a CD-ROM too": (
        VMIS,
        disks("a", cdrom={}),
        "spec.domain.devices.disks[0]",
        "disk and cdrom exclude each other",
    ),
    "a boot order of nothing": (
        VMIS,
        disks("a", bootOrder=0),
        "spec.domain.devices.disks[0].bootOrder",
        "starts at 1",
    ),
    "a card without its network": (
        VMIS,
        devices(interfaces=[{"name": "red", "masquerade": {}}]),
        "spec.domain.devices.interfaces[0].name",
        "red",
    ),
    "two kinds of firmware": (
        VMIS,
        domain(firmware={"bootloader": {"bios": {}, "efi": {}}}),
        "spec.domain.firmware.bootloader",
        "exclude each other",
    ),
    "a run strategy that is none": (VMS, vm(runStrategy="Sometimes"), "spec.runStrategy", "accepted"),
    "both forms of it": (VMS, vm(running=True), "spec.running", "exclude each other"),
    "a virtual machine of nothing": (VMS, {**vm(), "spec": {}}, "spec.template", "required"),
    "a selector that does not select": (REPLICA_SETS, replica_set({"app": "other"}), "spec.selector", "template"),
    "a driver in the configuration": (
        KUBEVIRTS,
        kubevirt(hypervisors=[{"name": "qmeu"}]),
        "spec.configuration.hypervisors[0].name",
        "did you mean qemu",
    ),
}
"""What is wrong, and where and how that is told."""


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_told_alike(servers: dict[str, Server], case: str) -> None:
    resource, obj, field, words = BAD[case]
    told = {name: server.refused(resource, obj) for name, server in servers.items()}
    for name, error in told.items():
        assert error.code == 422, f"{name}: {error.message}"
        assert error.status["reason"] == "Invalid", name
    causes = told["standalone"].status["details"]["causes"]
    assert [cause for cause in causes if cause["field"] == field and words in cause["message"]], causes
    assert told["cluster"].status["details"] == told["standalone"].status["details"]
    assert told["cluster"].message.endswith(told["standalone"].message)


def test_many_mistakes_are_told_at_once(servers: dict[str, Server]) -> None:
    obj = vmi(hostnam="x", hypervisor={"driver": "nosuch"}, domain={"cpu": {"cores": "two"}, "devices": {}})
    told = [server.refused(VMIS, obj).status["details"]["causes"] for server in servers.values()]
    assert len(told[0]) >= 3
    assert told[0] == told[1]


WEB = yaml.safe_dump(
    {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "runStrategy": "Halted",
            "template": {"spec": {"hypervisor": {"driver": "bhyve"}, "domain": {"memory": MEMORY, "devices": {}}}},
        },
    }
)
"""A machine whose driver no node of either has, so that it waits wherever it is started."""


@pytest.fixture
def web(server: Server) -> Iterator[Server]:
    server.kubectl("apply", "-f", "-", stdin=WEB)
    yield server
    server.kubectl("delete", "vm", "web", "--ignore-not-found", "--timeout=60s")


def test_kubectl_applies_again_and_shows_columns(web: Server) -> None:
    assert "unchanged" in web.kubectl("apply", "-f", "-", stdin=WEB)
    assert "configured" in web.kubectl("apply", "-f", "-", stdin=WEB.replace("64Mi", "96Mi"))
    web.kubectl("wait", "vm/web", "--for=jsonpath={.status.printableStatus}=Stopped", "--timeout=60s")
    header, row = web.kubectl("get", "vm").splitlines()
    assert header.split() == ["NAME", "AGE", "STATUS", "READY"]
    assert [row.split()[0], *row.split()[2:]] == ["web", "Stopped", "False"]
    assert web.kubectl("get", "virtualmachines", "-o", "name").strip() == "virtualmachine.kubevirt.io/web"
    guest = "{.spec.template.spec.domain.memory.guest}"
    assert web.kubectl("get", "vm", "web", "-o", f"jsonpath={guest}") == "96Mi"


def test_kubectl_waits_describes_with_events_and_deletes(web: Server) -> None:
    web.kubectl("patch", "vm", "web", "--type=merge", "-p", json.dumps({"spec": {"runStrategy": "Always"}}))
    web.kubectl("wait", "vm/web", "--for=jsonpath={.status.printableStatus}=ErrorUnschedulable", "--timeout=60s")
    web.kubectl("wait", "vmi/web", "--for=condition=Synchronized=False", "--timeout=60s")
    eventually(lambda: "SuccessfulCreate" in web.kubectl("describe", "vm", "web"))
    told = web.kubectl("describe", "vm", "web")
    assert "Print Status" not in told
    assert "Printable Status" in told
    assert "Started the virtual machine by creating the new virtual machine instance web" in told
    eventually(lambda: "bhyve" in web.kubectl("describe", "vmi", "web").partition("Events:")[2])
    header = web.kubectl("get", "vmi").splitlines()[0].split()
    assert header[:3] == ["NAME", "AGE", "PHASE"]
    web.kubectl("delete", "vm", "web", "--timeout=60s")
    web.kubectl("wait", "vmi/web", "--for=delete", "--timeout=60s")
    assert web.kubectl("get", "vm,vmi", "-o", "name") == ""


def test_kubectl_applies_on_the_servers_side(web: Server) -> None:
    other = WEB.replace("Halted", "Manual")
    refused = web.kubectl("apply", "--server-side", "--field-manager=two", "-f", "-", stdin=other, check=False)
    assert "conflict" in refused
    assert ".spec.runStrategy" in refused
    web.kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=two", "-f", "-", stdin=other)
    assert web.kubectl("get", "vm", "web", "-o", "jsonpath={.spec.runStrategy}") == "Manual"
    owners = web.kubectl(
        "get", "vm", "web", "--show-managed-fields", "-o", "jsonpath={.metadata.managedFields[*].manager}"
    )
    assert "two" in owners.split()


def test_kubectl_explains(server: Server) -> None:
    told = server.kubectl("explain", "vm.spec.template.spec.hypervisor")
    for field in ("anyOf", "driver", "virtType"):
        assert f"{field}\t<" in told
    assert "FIELD: hypervisor" in told


def test_kubectl_tells_every_cause(server: Server) -> None:
    bad = yaml.safe_dump(vmi(hostnam="x", hypervisor={"driver": "nosuch"}))
    said = server.kubectl("apply", "-f", "-", stdin=bad, check=False)
    assert "spec.hostnam: unknown field; did you mean hostname?" in said
    assert "spec.hypervisor.driver" in said
