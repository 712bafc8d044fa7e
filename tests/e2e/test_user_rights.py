"""What a namespace's user gets by machines, in a real kube-apiserver: no driver, account or status beyond theirs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.cluster import KUBECTL
from tests.e2e.installation import Installation, eventually, installed

pytestmark = pytest.mark.e2e
Obj = dict[str, Any]
ALLOWED = "hypervisor.kubevirt.io/allowed-drivers"


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with installed() as found:
        kubectl = found.cluster.kubectl
        for name in ("mine", "theirs"):
            kubectl("create", "namespace", name)
        machines = "--resource=*.kubevirt.io"
        kubectl("create", "role", "machines", "--verb=*", machines, "-n", "mine")
        kubectl("create", "rolebinding", "alice", "--role=machines", "--user=alice", "-n", "mine")
        yield found


def machine(name: str, **spec: Any) -> Obj:
    volumes = [{"name": "root", "containerDisk": {"image": "a:1"}}, *spec.pop("volumes", [])]
    inner = {"domain": {"memory": {"guest": "64Mi"}, "devices": {}}, "volumes": volumes, **spec}
    metadata = {"name": name, "namespace": "mine", "annotations": {ALLOWED: "lxc,ch"}}
    outer: Obj = {"runStrategy": "Halted", "template": {"metadata": {"annotations": {ALLOWED: "lxc"}}, "spec": inner}}
    return {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": metadata, "spec": outer}


def said(found: Installation, obj: Obj, user: str = "alice") -> str:
    who = [f"--as={user}"] if user else []
    command = [str(KUBECTL), f"--kubeconfig={found.cluster.kubeconfig}", *who, "create", "-f", "-"]
    done = subprocess.run(command, input=json.dumps(obj), capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def recorded(found: Installation, name: str) -> str:
    path = f"jsonpath={{.metadata.annotations.{ALLOWED.replace('.', chr(92) + '.')}}}"
    return found.cluster.kubectl("get", "vm", name, "-n", "mine", "-o", path)


def test_a_weaker_driver_takes_a_right_and_the_record_is_not_the_users(installation: Installation) -> None:
    refused = said(installation, machine("boxed", hypervisor={"driver": "lxc"}))
    assert "may not use hypervisors.hypervisor.kubevirt.io/lxc in namespace mine" in refused
    assert "created" in said(installation, machine("open"))
    assert recorded(installation, "open") == ""
    annotate = ("annotate", "vm", "open", "-n", "mine", f"{ALLOWED}=lxc", "--as=alice")
    installation.cluster.kubectl(*annotate)
    assert recorded(installation, "open") == ""
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role"}
    role |= {"metadata": {"name": "containers", "namespace": "mine"}}
    rule = {"apiGroups": ["hypervisor.kubevirt.io"], "resources": ["hypervisors"], "resourceNames": ["lxc"]}
    role["rules"] = [{**rule, "verbs": ["use"]}]
    installation.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(role))
    installation.cluster.kubectl("create", "rolebinding", "boxes", "--role=containers", "--user=alice", "-n", "mine")
    eventually(lambda: "created" in said(installation, machine("boxed", hypervisor={"driver": "lxc"})))
    assert recorded(installation, "boxed") == "lxc"


def test_an_administrator_needs_nothing(installation: Installation) -> None:
    assert "created" in said(installation, machine("admins", hypervisor={"driver": "lxc"}), "")
    assert "lxc" in recorded(installation, "admins").split(",")


def test_a_service_account_is_named_by_who_could_use_it(installation: Installation) -> None:
    account = {"name": "token", "serviceAccount": {"serviceAccountName": "powerful"}}
    assert "service account powerful may be given" in said(installation, machine("armed", volumes=[account]))
    assert "created" in said(installation, machine("armed", volumes=[account]), "")


def test_a_status_is_put_back(installation: Installation) -> None:
    obj = machine("x")["spec"]["template"]["spec"]
    vmi = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "spec": obj}
    vmi |= {"metadata": {"name": "lying", "namespace": "mine"}, "status": {"activePods": {"forged": "n1"}}}
    assert "created" in said(installation, vmi)
    kubectl = installation.cluster.kubectl
    patch = json.dumps({"status": {"activePods": {"forged": "n1"}}})
    kubectl("patch", "vmi", "lying", "-n", "mine", "--type=merge", "--as=alice", "-p", patch)
    assert "forged" not in kubectl("get", "vmi", "lying", "-n", "mine", "-o", "json")
