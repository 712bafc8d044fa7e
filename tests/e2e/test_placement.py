"""Machines placed in a mixed cluster: our controllers and the real scheduler, on nodes that kwok plays.

The nodes advertise what agents would have found. No guest runs; what is asked is where a machine's launcher goes, which
driver was chosen, and what is said of the others.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api import Obj
from polyvisor.api.resources import VMIS
from polyvisor.drivers import registry
from tests.e2e.cluster import Cluster, cluster
from tests.e2e.goprograms import NoGo
from tests.e2e.matrices import live
from tests.e2e.mixed import root_for
from tests.needs import unmet

pytestmark = pytest.mark.e2e
CRDS = Path(__file__).resolve().parents[2] / "deploy" / "crds"
SECONDS = 40
CONTROLLERS = """
import asyncio, sys
from polyvisor.controllers.run import run_controllers
from polyvisor.drivers import registry
from polyvisor.kube import KubeClient
async def main():
    async with KubeClient.from_kubeconfig(sys.argv[1]) as client:
        await run_controllers(client, registry(), give_way_seconds=1.0)
asyncio.run(main())
"""
NODES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "kvm-1": (("qemu", "qemu.kvm"), {}),
    "kvm-2": (("qemu", "qemu.kvm"), {}),
    "tcg-1": (("qemu", "qemu.qemu"), {}),
    "xen-1": (("xen", "xen.xen", "xen.xenpv"), {}),
    "xen-2": (("xen", "xen.xen"), {"taints": [{"key": "lab", "value": "yes", "effect": "NoSchedule"}]}),
    "ch-1": (("ch", "ch.kvm"), {}),
    "lxc-1": (("lxc", "lxc.lxc"), {}),
    "esx-1": (("esx", "esx.vmware"), {}),
    "vz-1": (("vz", "vz.vz"), {}),
    "off-1": (("vbox", "vbox.vbox"), {"unschedulable": True}),
}
ROOM = {"cpu": "8", "memory": "16Gi", "pods": "50", "ephemeral-storage": "100Gi", "devices.kubevirt.io/kvm": "1k"}
KERNEL = {"kernelBoot": {"container": {"image": "k", "kernelPath": "/vmlinuz"}}}
PLAIN = {"autoattachPodInterface": False}
DISK = {"volumes": [{"name": "root", "hostDisk": {"type": "Disk", "path": "/vmfs/volumes/a/root.vmdk"}}]}


@pytest.fixture(scope="module")
def mixed() -> Iterator[Cluster]:
    """The cluster with its nodes and our controllers."""
    try:
        with cluster("kube-controller-manager", "kube-scheduler", "kwok") as one:
            one.kubectl("apply", "-f", str(CRDS))
            one.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
            for name in NODES:
                one.kubectl("create", "-f", "-", stdin=json.dumps(_node(name)))
            one.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=30s")
            _until(lambda: "default" in one.kubectl("get", "serviceaccount", "-o", "name"), one)
            with (one.folder / "controllers.log").open("wb") as log:
                command = [sys.executable, "-c", CONTROLLERS, str(one.kubeconfig)]
                with subprocess.Popen(command, stdout=log, stderr=log) as process:
                    try:
                        yield one
                    finally:
                        process.terminate()
    except NoGo as missing:
        unmet(str(missing))


def _node(name: str) -> Obj:
    advertised, spec = NODES[name]
    labels = {f"hypervisor.kubevirt.io/{word}": "true" for word in advertised}
    labels |= {"kubevirt.io/schedulable": "true", "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": name}
    metadata = {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}}
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": metadata,
        "spec": spec,
        "status": {"allocatable": ROOM, "capacity": ROOM},
    }


def _machine(name: str, hypervisor: Obj | None, **spec: Any) -> Obj:
    """Return a machine as the webhook would let it through."""
    domain = {"memory": {"guest": "256Mi"}, "devices": {"autoattachPodInterface": False}, **spec.pop("domain", {})}
    spec = {**root_for(hypervisor), **spec}
    whole = {**({"hypervisor": hypervisor} if hypervisor else {}), "domain": domain, **spec}
    obj = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": name}, "spec": whole}
    outcome = admit("CREATE", VMIS, obj, None, AdmissionContext({}, registry()))
    assert not outcome.problems, outcome.problems
    outcome.obj.pop("status", None)
    return outcome.obj


def _on_host(name: str) -> Obj:
    """Return an affinity that leaves one node."""
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [name]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}


def _until(done: Callable[[], Any], one: Cluster) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (found := done()):
        assert time.monotonic() < deadline, (one.folder / "controllers.log").read_text()[-3000:]
        time.sleep(0.1)
    return found


def _get(one: Cluster, kind: str, *arguments: str) -> Obj:
    found: Obj = json.loads(one.kubectl("get", kind, *arguments, "-o", "json"))
    return found


def _verdicts(vmi: Obj) -> dict[str, str]:
    candidates = ((vmi.get("status") or {}).get("hypervisor") or {}).get("candidates") or []
    return {each["driver"]: each["verdict"] for each in candidates}


CASES: dict[str, tuple[Obj, str, set[str]]] = {
    "named-qemu": (_machine("named-qemu", {"driver": "qemu"}), "qemu", {"kvm-1", "kvm-2"}),
    "named-xen": (_machine("named-xen", {"driver": "xen"}), "xen", {"xen-1"}),
    "named-ch": (_machine("named-ch", {"driver": "ch"}, domain={"firmware": KERNEL}), "ch", {"ch-1"}),
    "named-lxc": (_machine("named-lxc", {"driver": "lxc"}), "lxc", {"lxc-1"}),
    "named-esx": (_machine("named-esx", {"driver": "esx"}, **DISK), "esx", {"esx-1"}),
    "named-vz": (_machine("named-vz", {"driver": "vz"}, **DISK), "vz", {"vz-1"}),
    "automatic": (_machine("automatic", None), "qemu", {"kvm-1", "kvm-2"}),
    "any-of-first": (_machine("any-of-first", {"anyOf": ["xen", "qemu"]}), "xen", {"xen-1"}),
    "any-of-lacking": (
        _machine("any-of-lacking", {"anyOf": ["ch", "qemu"]}, domain={"firmware": {"bootloader": {"bios": {}}}}),
        "qemu",
        {"kvm-1", "kvm-2"},
    ),
    "any-of-no-node": (_machine("any-of-no-node", {"anyOf": ["bhyve", "xen"]}), "xen", {"xen-1"}),
    "any-of-cordoned": (_machine("any-of-cordoned", {"anyOf": ["vbox", "lxc"]}), "lxc", {"lxc-1"}),
    "virt-type": (_machine("virt-type", {"driver": "xen", "virtType": "xen"}), "xen", {"xen-1"}),
    "tolerated": (
        _machine(
            "tolerated",
            {"driver": "xen"},
            tolerations=[{"key": "lab", "operator": "Exists"}],
            nodeSelector={"kubernetes.io/hostname": "xen-2"},
        ),
        "xen",
        {"xen-2"},
    ),
    "selected": (
        _machine("selected", {"driver": "qemu"}, nodeSelector={"kubernetes.io/hostname": "kvm-2"}),
        "qemu",
        {"kvm-2"},
    ),
    "type-xenpv": (_machine("type-xenpv", {"virtType": "xenpv"}, domain={"firmware": KERNEL}), "xen", {"xen-1"}),
    "type-vmware": (_machine("type-vmware", {"virtType": "vmware"}, **DISK), "esx", {"esx-1"}),
    "type-lxc": (_machine("type-lxc", {"virtType": "lxc"}), "lxc", {"lxc-1"}),
    "type-kvm": (_machine("type-kvm", {"driver": "qemu", "virtType": "kvm"}), "qemu", {"kvm-1", "kvm-2"}),
    "any-of-three": (_machine("any-of-three", {"anyOf": ["vmware", "openvz", "lxc"]}), "lxc", {"lxc-1"}),
    "any-of-named-type": (
        _machine("any-of-named-type", {"anyOf": ["lxc", "xen"], "virtType": "xen"}),
        "xen",
        {"xen-1"},
    ),
    "feature-of-one": (
        _machine(
            "feature-of-one", {"anyOf": ["xen", "lxc", "qemu"]}, domain={"devices": {**PLAIN, "sound": {"name": "s"}}}
        ),
        "qemu",
        {"kvm-1", "kvm-2"},
    ),
    "watched": (
        _machine(
            "watched",
            {"anyOf": ["lxc", "qemu"]},
            domain={"devices": {**PLAIN, "watchdog": {"name": "w", "i6300esb": {}}}},
        ),
        "qemu",
        {"kvm-1", "kvm-2"},
    ),
    "affine": (_machine("affine", {"driver": "qemu"}, affinity=_on_host("kvm-1")), "qemu", {"kvm-1"}),
    "any-of-affine": (
        _machine("any-of-affine", {"anyOf": ["xen", "lxc"]}, affinity=_on_host("lxc-1")),
        "lxc",
        {"lxc-1"},
    ),
    "tolerant-but-not-bound": (
        _machine("tolerant-but-not-bound", {"driver": "xen"}, tolerations=[{"operator": "Exists"}]),
        "xen",
        {"xen-1", "xen-2"},
    ),
    "big": (
        _machine("big", {"driver": "qemu"}, domain={"memory": {"guest": "12Gi"}, "devices": PLAIN}),
        "qemu",
        {"kvm-1", "kvm-2"},
    ),
    "many-cpus": (
        _machine(
            "many-cpus", {"driver": "lxc"}, domain={"cpu": {"cores": 4}, "memory": {"guest": "64Mi"}, "devices": PLAIN}
        ),
        "lxc",
        {"lxc-1"},
    ),
    "gives-way": (
        _machine(
            "gives-way",
            {"anyOf": ["xen", "qemu"]},
            nodeSelector={"kubernetes.io/hostname": "kvm-1"},
        ),
        "qemu",
        {"kvm-1"},
    ),
}


@pytest.mark.parametrize("case", live(CASES, "any-of-first", "virt-type", "gives-way"))
def test_a_machine_goes_where_its_driver_is(mixed: Cluster, case: str) -> None:
    obj, driver, nodes = CASES[case]
    mixed.kubectl("create", "-f", "-", stdin=json.dumps(obj))

    def bound() -> Obj | None:
        vmi = _get(mixed, "vmi", case)
        if _verdicts(vmi).get(driver) != "Chosen":
            return None
        pods = _get(mixed, "pods", "-l", f"vm.kubevirt.io/name={case}")["items"]
        return next(
            (pod for pod in pods if pod["spec"].get("nodeName") and "deletionTimestamp" not in pod["metadata"]), None
        )

    pod = _until(bound, mixed)
    assert pod["spec"]["nodeName"] in nodes
    mixed.kubectl("delete", "vmi", case, "--wait=false")


def test_without_a_node_nothing_is_started_and_the_reason_is_told(mixed: Cluster) -> None:
    mixed.kubectl("create", "-f", "-", stdin=json.dumps(_machine("nowhere", {"driver": "bhyve"})))
    vmi = _until(lambda: (v := _get(mixed, "vmi", "nowhere")) and _verdicts(v) and v, mixed)
    assert _verdicts(vmi) == {"bhyve": "NoNode"}
    assert not _get(mixed, "pods", "-l", "vm.kubevirt.io/name=nowhere")["items"]
    mixed.kubectl("delete", "vmi", "nowhere", "--wait=false")


def test_a_node_that_starts_to_advertise_gets_the_waiting_machine(mixed: Cluster) -> None:
    mixed.kubectl("create", "-f", "-", stdin=json.dumps(_machine("waiting", {"driver": "openvz"})))
    _until(lambda: _verdicts(_get(mixed, "vmi", "waiting")) == {"openvz": "NoNode"}, mixed)
    labels = ("hypervisor.kubevirt.io/openvz=true", "hypervisor.kubevirt.io/openvz.openvz=true")
    mixed.kubectl("label", "node", "lxc-1", *labels)
    _until(lambda: _verdicts(_get(mixed, "vmi", "waiting")) == {"openvz": "Chosen"}, mixed)
    mixed.kubectl("label", "node", "lxc-1", *(f"{label.partition('=')[0]}-" for label in labels))
    mixed.kubectl("delete", "vmi", "waiting", "--wait=false")


def test_machines_that_shun_each_other_are_apart(mixed: Cluster) -> None:
    apart = {"labelSelector": {"matchLabels": {"app": "shy"}}, "topologyKey": "kubernetes.io/hostname"}
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}}
    for name in ("shy-1", "shy-2"):
        obj = _machine(name, {"driver": "qemu"}, affinity=affinity)
        obj["metadata"]["labels"] = {"app": "shy"}
        mixed.kubectl("create", "-f", "-", stdin=json.dumps(obj))

    def nodes() -> set[str]:
        return {pod["spec"].get("nodeName", "") for pod in _get(mixed, "pods", "-l", "app=shy")["items"]} - {""}

    _until(lambda: nodes() == {"kvm-1", "kvm-2"}, mixed)
    mixed.kubectl("delete", "vmi", "shy-1", "shy-2", "--wait=false")


def test_a_machine_too_big_for_every_node_says_so(mixed: Cluster) -> None:
    obj = _machine("huge", {"anyOf": ["xen", "lxc"]}, domain={"memory": {"guest": "1Ti"}, "devices": PLAIN})
    mixed.kubectl("create", "-f", "-", stdin=json.dumps(obj))
    told = _until(lambda: (v := _verdicts(_get(mixed, "vmi", "huge"))) and "Unschedulable" in v.values() and v, mixed)
    assert set(told) == {"xen", "lxc"}
    mixed.kubectl("delete", "vmi", "huge", "--wait=false")


def test_emulation_is_not_used_unless_the_cluster_allows_it(mixed: Cluster) -> None:
    obj = _machine("emulated", {"driver": "qemu", "virtType": "qemu"})
    mixed.kubectl("create", "-f", "-", stdin=json.dumps(obj))
    assert "Chosen" not in _until(lambda: _verdicts(_get(mixed, "vmi", "emulated")), mixed).values()
    mixed.kubectl("delete", "vmi", "emulated", "--wait=false")


def test_a_cordoned_node_gets_nothing(mixed: Cluster) -> None:
    mixed.kubectl("cordon", "lxc-1")
    obj = _machine("cordoned", {"anyOf": ["lxc", "xen"]})
    mixed.kubectl("create", "-f", "-", stdin=json.dumps(obj))
    _until(lambda: _verdicts(_get(mixed, "vmi", "cordoned")).get("xen") == "Chosen", mixed)
    mixed.kubectl("uncordon", "lxc-1")
    mixed.kubectl("delete", "vmi", "cordoned", "--wait=false")


def test_the_cluster_orders_and_disables_drivers(mixed: Cluster) -> None:
    listed = [{"name": "xen", "launcherImage": "r/xen:1"}, {"name": "qemu", "launcherImage": "r/qemu:1"}]
    configuration = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "KubeVirt",
        "metadata": {"name": "kubevirt", "namespace": "default"},
        "spec": {"configuration": {"hypervisors": listed}},
    }
    mixed.kubectl("create", "-f", "-", stdin=json.dumps(configuration))
    _until(lambda: (_get(mixed, "kubevirt", "kubevirt").get("status") or {}).get("phase") == "Deployed", mixed)
    mixed.kubectl("create", "-f", "-", stdin=json.dumps(_machine("ordered", None)))
    told = _until(lambda: (v := _verdicts(_get(mixed, "vmi", "ordered"))) and "Chosen" in v.values() and v, mixed)
    assert told["xen"] == "Chosen"
    assert told["qemu"] == "Eligible"
    mixed.kubectl("create", "-f", "-", stdin=json.dumps(_machine("disabled", {"driver": "lxc"})))
    assert _until(lambda: _verdicts(_get(mixed, "vmi", "disabled")), mixed) == {"lxc": "NotEnabled"}
    pod = _until(lambda: _get(mixed, "pods", "-l", "vm.kubevirt.io/name=ordered")["items"], mixed)[0]
    assert "r/xen:1" in {container["image"] for container in pod["spec"]["containers"]}
    mixed.kubectl("delete", "vmi", "ordered", "disabled", "--wait=false")
    mixed.kubectl("delete", "kubevirt", "kubevirt")
