"""A host without a kubelet in a real cluster: its agent in a Pod, its machines by kubectl, beside a kubelet's node.

The API server holds Nodes to what is theirs (NodeRestriction), as every cluster does. The tests are one life of an
endpoint and run in this order.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import yaml

from polyvisor.api.reading import labels_of, read_status
from tests import kept
from tests.agent.platform.endpoint.hosts import HypervisorHost
from tests.agent.registry_server import serving
from tests.e2e.cluster import KUBECTL
from tests.e2e.endpoint_hosts import by_ssh, endpoint, forwarded, hypervisor_host, keys, machine, secret
from tests.e2e.esx import PASSWORD, STORE, esx_host
from tests.e2e.goprograms import NoGo
from tests.e2e.installation import eventually
from tests.e2e.node_images import demo_guests
from tests.e2e.nodes import NodesCluster, cluster_with_nodes, images
from tests.folders import short_folder
from tests.needs import unmet

Obj = dict[str, Any]
pytestmark = [pytest.mark.e2e, pytest.mark.root]
NAME, NODE, AGENT = "rack4", "endpoint-rack4", "virt-endpoint-rack4"
SECONDS = 180
READY = "polyvisor-demo: ready"
HERE = ("--namespace=kubevirt",)


class World:
    """The cluster, the host, and where the agent finds images."""

    def __init__(self, cluster: NodesCluster, host: HypervisorHost, images_at: str, esx: str) -> None:
        self.cluster = cluster
        self.kubectl = cluster.kubectl
        self.host = host
        self.images = images_at
        self.esx = esx

    def apply(self, *objects: Obj) -> None:
        self.kubectl("apply", "-f-", stdin=yaml.safe_dump_all(objects))

    def get(self, *what: str) -> Obj:
        return dict(json.loads(self.kubectl("get", *what, "--output=json", "--ignore-not-found") or "{}"))

    def condition(self, kind: str, *what: str) -> Obj:
        found = read_status(self.get(*(what or ("hypervisorendpoint", NAME)))).get("conditions") or []
        return next((one for one in found if one["type"] == kind), {})

    def ready(self, name: str, wanted: str = "True") -> bool:
        return self.condition("Ready", "vmi", name).get("status") == wanted

    def pod(self, name: str) -> Obj:
        (pod,) = self.get("pods", f"--selector=vm.kubevirt.io/name={name}")["items"]
        return dict(pod)

    def said(self, name: str) -> str:
        pod = self.pod(name)["metadata"]["name"]
        return self.kubectl("logs", pod, "--container=guest-console-log", check=False)

    def agent(self) -> str:
        pods = self.get("pods", *HERE, "--selector=kubevirt.io=virt-endpoint").get("items") or []
        return next((str(one["metadata"]["uid"]) for one in pods if not one["metadata"].get("deletionTimestamp")), "")

    def agent_is_ready(self) -> bool:
        return read_status(self.get("deployment", AGENT, *HERE)).get("readyReplicas") == 1

    def domain(self, name: str = "default_afar") -> str:
        return self.host.virsh("domid", name)

    def why(self) -> str:
        told = [
            self.kubectl("get", "nodes,pods,vmi,pvc,pv,csr", "-A", "-o", "wide", check=False),
            self.kubectl("get", "events", "-A", "--sort-by=.lastTimestamp", check=False)[-4000:],
            self.kubectl("describe", "pods", *HERE, "--selector=kubevirt.io=virt-endpoint", check=False)[-2500:],
            self.kubectl("logs", *HERE, "--selector=kubevirt.io=virt-endpoint", "--tail=40", check=False),
            self.kubectl("logs", *HERE, "--selector=kubevirt.io=virt-operator", "--tail=15", check=False),
            yaml.safe_dump(read_status(self.get("hypervisorendpoint", NAME))),
        ]
        return "\n----\n".join(told)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    def limited(cluster: NodesCluster) -> None:
        cluster.extra["kube-apiserver"] = ("--enable-admission-plugins=NodeRestriction",)

    try:
        with ExitStack() as stack:
            cluster = stack.enter_context(cluster_with_nodes(1, [*images(), demo_guests()], limited))
            host = stack.enter_context(hypervisor_host(cluster.address))
            registry = stack.enter_context(serving(kept.guest_images(), cluster.address))
            esx = stack.enter_context(esx_host(stack.enter_context(short_folder()) / "datastore"))
            esx_at = stack.enter_context(forwarded(cluster.address, esx.address))
            cluster.install("--set", f"endpoint.insecureRegistries=['{registry.host}']")
            yield World(cluster, host, f"{registry.host}/localhost/polyvisor/", esx_at)
    except NoGo as missing:
        unmet(str(missing))


def test_an_endpoint_gets_an_agent_and_becomes_a_node(world: World) -> None:
    wrong = secret(NAME, keys(world.host), label="rack5")
    world.apply(wrong, endpoint(NAME, by_ssh(world.host)))
    eventually(lambda: world.condition("Ready").get("reason") == "SecretNotLabelled", SECONDS, world.why)
    world.apply(secret(NAME, keys(world.host)))
    eventually(lambda: world.condition("Ready").get("status") == "True", SECONDS, world.why)
    eventually(lambda: world.condition("Ready", "node", NODE).get("status") == "True", SECONDS, world.why)
    node = world.get("node", NODE)
    assert "kubernetes.io/os" not in labels_of(node)
    assert labels_of(node)["hypervisor.kubevirt.io/endpoint"] == NAME
    assert node["spec"]["providerID"] == f"polyvisor://{world.get('hypervisorendpoint', NAME)['metadata']['uid']}"
    assert {one["type"]: one["status"] for one in node["status"]["conditions"]}["HypervisorReachable"] == "True"
    eventually(world.agent_is_ready, SECONDS, world.why)


def test_a_machine_runs_on_the_host(world: World) -> None:
    """Its seed is of a Secret of its namespace, which the agent may read because the Pod names it."""
    data = {"stringData": {"userdata": "#cloud-config\nhostname: afar\n"}}
    world.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "seed"}, **data})
    seed = {"name": "seed", "cloudInitNoCloud": {"secretRef": {"name": "seed"}}}
    world.apply(machine("afar", NAME, world.images, [seed]))
    eventually(lambda: world.ready("afar"), SECONDS, world.why)
    assert world.host.virsh("list", "--name").split() == ["default_afar"]
    pod = world.pod("afar")
    assert pod["spec"]["nodeName"] == NODE
    (compute, *_) = pod["spec"]["containers"]
    assert compute["resources"]["requests"]["memory"] == "96Mi", "nothing but the guest takes the host's memory"
    assert not any("devices.kubevirt.io" in key for key in compute["resources"]["requests"])


def test_its_console_and_its_log(world: World) -> None:
    eventually(lambda: READY in world.said("afar"), SECONDS, lambda: world.said("afar") + world.why())
    assert "login" in world.cluster.polyvisor("console", "afar", stdin="\nroot\n")

    def computed() -> bool:
        return "sum 42." in world.cluster.polyvisor("console", "afar", stdin="echo sum $((41 + 1)).\n")

    eventually(computed, SECONDS)
    pod = world.pod("afar")["metadata"]["name"]
    assert "no container runs in this Pod" in world.kubectl("logs", pod, "--container=compute")
    assert "no container runs in this Pod" in world.kubectl("exec", pod, "--", "true", check=False)


def test_others_pods_stay_away(world: World) -> None:
    container = {"name": "c", "image": "localhost/polyvisor/pause:1"}
    spec = {"containers": [container], "tolerations": [{"operator": "Exists"}]}
    labels = {"app": "everywhere"}
    template = {"metadata": {"labels": labels}, "spec": spec}
    body = {"selector": {"matchLabels": labels}, "template": template}
    world.apply({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "everywhere"}, "spec": body})
    everywhere = ("pods", "--selector=app=everywhere")

    def running() -> list[str]:
        pods = world.get(*everywhere).get("items") or []
        return [one["spec"].get("nodeName", "") for one in pods if read_status(one).get("phase") == "Running"]

    eventually(lambda: running() == ["node1"], SECONDS, world.why)
    assert NODE not in [one["spec"].get("nodeName") for one in (world.get(*everywhere).get("items") or [])]
    direct = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "direct"}, "spec": {**spec, "nodeName": NODE}}
    said = world.kubectl("create", "-f-", stdin=json.dumps(direct), check=False)
    assert "this Node stands for a hypervisor host" in said
    world.kubectl("delete", "daemonset", "everywhere")


def test_a_machine_that_names_no_endpoint_runs_on_a_node_of_the_cluster(world: World) -> None:
    here = machine("near", NAME)
    del here["spec"]["template"]["spec"]["hypervisor"]["endpoint"]
    world.apply(here)
    eventually(lambda: world.ready("near"), SECONDS, world.why)
    assert world.pod("near")["spec"]["nodeName"] == "node1"
    world.kubectl("delete", "vm", "near", "--timeout=100s")


def test_a_claim_becomes_a_disk_on_the_host(world: World) -> None:
    topology = [{"matchLabelExpressions": [{"key": "hypervisor.kubevirt.io/endpoint", "values": [NAME]}]}]
    world.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": NAME},
            "provisioner": "endpoint.hypervisor.kubevirt.io",
            "volumeBindingMode": "WaitForFirstConsumer",
            "allowedTopologies": topology,
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "disk"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": NAME,
                "resources": {"requests": {"storage": "16Mi"}},
            },
        },
        machine("with-claim", NAME, world.images, [{"name": "d", "persistentVolumeClaim": {"claimName": "disk"}}]),
    )
    eventually(lambda: world.ready("with-claim"), SECONDS, world.why)
    volume = world.get("pv", world.get("pvc", "disk")["spec"]["volumeName"])
    assert volume["spec"]["csi"]["driver"] == "endpoint.hypervisor.kubevirt.io"
    handle = volume["spec"]["csi"]["volumeHandle"].split("/")
    assert handle[:2] == [NAME, "images"]
    assert handle[2] in world.host.virsh("vol-list", "images")
    eventually(lambda: "disk vdb, 16 MiB" in world.said("with-claim"), SECONDS, lambda: world.said("with-claim"))
    world.kubectl("delete", "vm", "with-claim", "--timeout=100s")
    assert handle[2] in world.host.virsh("vol-list", "images"), "a claim outlives its machine"
    world.kubectl("delete", "pvc", "disk", "--timeout=60s")
    eventually(lambda: handle[2] not in world.host.virsh("vol-list", "images"), SECONDS, world.why)
    eventually(lambda: not world.get("pv", volume["metadata"]["name"]), SECONDS, world.why)


def test_hosts_of_several_drivers_are_nodes_of_one_cluster(world: World) -> None:
    """Two more connections lead to the first host, so that all of them have to declare what they take of it."""
    room = {"capacity": {"cpu": "1", "memory": "1Gi", "pods": "10"}}
    world.kubectl("patch", "hypervisorendpoint", NAME, "--type=merge", f"--patch={json.dumps({'spec': room})}")
    certificate, key = world.host.authority.client()
    tls = {"ca.crt": world.host.authority.file, "tls.crt": certificate, "tls.key": key}
    esx = {"tls": {"insecure": "Allow"}, "storage": [{"storageClass": "esx", "pool": STORE, "defaultForImages": True}]}
    world.apply(
        secret("tls5", {name: path.read_text() for name, path in tls.items()}),
        endpoint("tls5", f"qemu+tls://{world.host.address}:{world.host.tls_port}/system", **room),
        secret("lxc6", keys(world.host)),
        endpoint("lxc6", by_ssh(world.host, "lxc"), **room),
        secret("esx7", {"username": "root", "password": PASSWORD}),
        endpoint("esx7", f"esx://{world.esx}/", **esx),
    )
    for name in (NAME, "tls5", "lxc6", "esx7"):
        what = ("node", f"endpoint-{name}")
        eventually(lambda what=what: world.condition("Ready", *what).get("status") == "True", SECONDS, world.why)
    world.apply(machine("by-tls", "tls5", world.images), afar_on_esx(world.images))
    for name in ("by-tls", "on-esx"):
        eventually(lambda name=name: world.ready(name), SECONDS, world.why)
    assert world.get("vmi", "on-esx")["status"]["hypervisor"]["driver"] == "esx"
    assert sorted(world.host.virsh("list", "--name").split()) == ["default_afar", "default_by-tls"]
    listed = json.loads(world.cluster.polyvisor("domains", NAME, "-o", "json"))["items"]
    assert {one["name"]: one.get("machine", "") for one in listed}["default_by-tls"] == "default/by-tls"
    world.kubectl("delete", "vm", "by-tls", "on-esx", "--timeout=100s")
    for name in ("tls5", "lxc6", "esx7"):
        world.kubectl("delete", "hypervisorendpoint", name, "--timeout=60s")
        eventually(lambda name=name: not world.get("node", f"endpoint-{name}"), SECONDS, world.why)


def afar_on_esx(images_at: str) -> Obj:
    """Return a machine for ESX, which boots from its disk alone."""
    found = machine("on-esx", "esx7", images_at, [{"name": "scratch", "emptyDisk": {"capacity": "16Mi"}}])
    spec = found["spec"]["template"]["spec"]
    spec["hypervisor"]["virtType"] = "vmware"
    spec["domain"] = {"devices": {"autoattachPodInterface": False}, "memory": {"guest": "64Mi"}}
    return found


def test_a_drain_says_which_machines_hold_it_up(world: World) -> None:
    before = world.domain()
    options = ("--delete-emptydir-data", "--force", "--timeout=5s")
    said = world.kubectl("drain", NODE, *options, check=False)
    assert "run on the host of endpoint rack4 and cannot be moved: default/afar; stop them" in said
    assert world.domain() == before
    world.kubectl("uncordon", NODE)


def test_a_killed_agent_comes_back_to_its_machines(world: World) -> None:
    before, uid, domain = world.agent(), world.get("node", NODE)["metadata"]["uid"], world.domain()
    machine_uid = world.get("vmi", "afar")["metadata"]["uid"]
    world.kubectl("delete", "pods", *HERE, "--selector=kubevirt.io=virt-endpoint", "--force", "--grace-period=0")
    eventually(lambda: world.agent() not in ("", before) and world.agent_is_ready(), SECONDS, world.why)
    assert (world.domain(), world.get("node", NODE)["metadata"]["uid"]) == (domain, uid)
    assert world.get("vmi", "afar")["metadata"]["uid"] == machine_uid
    assert world.ready("afar")

    def followed() -> bool:
        world.cluster.polyvisor("console", "afar", stdin="echo back $((40 + 4)).\n")
        return "back 44." in world.said("afar")

    eventually(followed, SECONDS, lambda: world.said("afar"))


def test_a_host_that_is_away_is_not_dead(world: World) -> None:
    uid, domain = world.get("vmi", "afar")["metadata"]["uid"], world.domain()
    world.host.kill_daemon()
    eventually(lambda: world.ready("afar", "Unknown"), SECONDS, world.why)
    since = world.condition("Ready", "vmi", "afar")
    assert since["reason"] == "EndpointUnreachable"
    assert world.condition("Ready", "node", NODE)["status"] == "True", "its agent lives"
    assert world.condition("HypervisorReachable", "node", NODE)["status"] == "False"
    taints = [one["key"] for one in world.get("node", NODE)["spec"]["taints"]]
    assert "hypervisor.kubevirt.io/unreachable" in taints
    world.host.start_daemon()
    eventually(lambda: world.ready("afar"), SECONDS, world.why)
    assert world.get("vmi", "afar")["metadata"]["uid"] == uid
    assert world.domain() == domain
    eventually(lambda: len(world.get("node", NODE)["spec"]["taints"]) == 1, SECONDS, world.why)


def test_twenty_seconds_without_packets_change_nothing(world: World) -> None:
    uid, domain = world.get("vmi", "afar")["metadata"]["uid"], world.domain()
    node = world.cluster.nodes[0]
    rule = ("tcp", "dport", str(world.host.ssh_port), "drop")
    node.run("nft", "add", "table", "inet", "cut")
    node.run("nft", "add", "chain", "inet", "cut", "f", "{ type filter hook forward priority 0 ; }")
    node.run("nft", "add", "rule", "inet", "cut", "f", *rule)
    watch = [KUBECTL, f"--kubeconfig={world.cluster.kubeconfig}", "wait", "--for=delete", "vmi/afar", "--timeout=20s"]
    ended = subprocess.run(watch, capture_output=True, text=True)
    node.run("nft", "delete", "table", "inet", "cut")
    assert ended.returncode == 1, "the machine is as it was all that time"
    eventually(lambda: world.ready("afar"), SECONDS, world.why)
    assert (world.get("vmi", "afar")["metadata"]["uid"], world.domain()) == (uid, domain)


def test_an_endpoint_with_machines_is_not_deleted_and_one_without_leaves_nothing(world: World) -> None:
    refused = world.kubectl("delete", "hypervisorendpoint", NAME, check=False)
    assert "has virtual machines on its host: default/afar" in refused
    world.kubectl("delete", "vm", "afar", "--timeout=100s")
    eventually(lambda: not world.host.virsh("list", "--all", "--name"), SECONDS, world.why)
    eventually(lambda: not world.get("pods").get("items"), SECONDS, world.why)
    world.kubectl("delete", "hypervisorendpoint", NAME, "--timeout=60s")
    gone = [("node", NODE), ("deployment", AGENT, *HERE), ("serviceaccount", f"kubevirt-endpoint-{NAME}", *HERE)]
    eventually(lambda: not [one for one in gone if world.get(*one)], SECONDS, world.why)
    bound = world.get("clusterrolebinding", "kubevirt-endpoint").get("subjects") or []
    assert not bound, "nobody has the rights of its agent any more"
    assert world.host.virsh("pool-list", "--name") == "images"
