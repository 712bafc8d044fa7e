"""Machines that name an endpoint: who may, and with which driver."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api import Obj
from polyvisor.api.resources import ENDPOINTS, NAMESPACES, VMIS, Resource
from polyvisor.drivers import registry

WHERE = "spec.hypervisor.endpoint"


def machine(**spec: Any) -> Obj:
    hypervisor = {"endpoint": "rack4", **spec.pop("hypervisor", {})}
    domain = {"devices": {}, "memory": {"guest": "64Mi"}}
    volumes = [{"name": "root", "containerDisk": {"image": "a"}}]
    whole = {"hypervisor": hypervisor, "domain": domain, "volumes": volumes, **spec}
    metadata = {"name": "web", "namespace": "shop"}
    return {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": metadata, "spec": whole}


def found(vmi: Obj, *, cluster: bool = False, uri: str = "qemu+ssh://root@h/system", **spec: Any) -> dict[str, str]:
    spec = {"uri": uri, "allowedNamespaces": {"selector": {"matchLabels": {"team": "a"}}}, **spec}

    def lookup(resource: Resource, namespace: str, name: str) -> Obj | None:
        if resource == ENDPOINTS and name == "rack4":
            return {"metadata": {"name": name}, "spec": spec}
        return {"metadata": {"name": name, "labels": {"team": "a"}}} if resource == NAMESPACES else None

    context = AdmissionContext({}, registry(), lookup, cluster=cluster)
    return {problem.field: problem.message for problem in admit("CREATE", VMIS, vmi, None, context).problems}


def test_an_agent_is_put_to_work_by_no_field_on_an_endpoint() -> None:
    method = {"qemuGuestAgent": {"users": ["a"]}}
    keys = [{"sshPublicKey": {"source": {"secret": {"secretName": "k"}}, "propagationMethod": method}}]
    probed = found(machine(livenessProbe={"guestAgentPing": {}}, accessCredentials=keys))
    assert "asked by users alone" in probed["spec.livenessProbe.guestAgentPing"]
    assert "asked by users alone" in probed["spec.accessCredentials[0].sshPublicKey.propagationMethod.qemuGuestAgent"]


@pytest.mark.parametrize("uri", ["hyperv://h/", "vbox+ssh://u@h/session"])
def test_an_endpoint_whose_domains_cannot_be_marked_takes_no_machines(uri: str) -> None:
    assert "libvirt keeps neither metadata nor description" in found(machine(volumes=[]), uri=uri)[WHERE]


def test_the_endpoints_driver_is_the_machines() -> None:
    assert found(machine()) == {}
    assert found(machine(hypervisor={"driver": "qemu"})) == {}
    assert found(machine(hypervisor={"anyOf": ["xen", "qemu"]})) == {}
    message = found(machine(hypervisor={"driver": "lxc"}))[WHERE]
    assert message == "endpoint rack4 runs qemu, and the machine asks for lxc"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"allowedNamespaces": {"selector": {"matchLabels": {"team": "b"}}}},
            "namespace shop may not use endpoint rack4",
        ),
        ({"allowedNamespaces": None}, "namespace shop may not use endpoint rack4"),
        ({"management": "Observe"}, "endpoint rack4 is only observed"),
        ({"uri": "odd://h/"}, "the driver of endpoint rack4 is not installed"),
    ],
)
def test_an_endpoint_that_takes_no_machine_of_the_namespace(spec: Obj, message: str) -> None:
    assert message in found(machine(), **spec)[WHERE]


@pytest.mark.parametrize("cluster", [False, True])
def test_an_endpoint_that_is_not_there_and_one_that_is(cluster: bool) -> None:
    vmi = machine(hypervisor={"endpoint": "rack5"})
    assert "there is no HypervisorEndpoint 'rack5'" in found(vmi, cluster=cluster)[WHERE]
    assert WHERE not in found(machine(), cluster=cluster)


def test_what_is_not_there_on_endpoints_is_refused_with_that_reason() -> None:
    vmi = machine()
    vmi["spec"]["domain"]["devices"] = {"tpm": {}}
    assert "is not kept on an endpoint in this release" in found(vmi)["spec.domain.devices.tpm"]
    there = admit("CREATE", VMIS, machine(hypervisor={"driver": "qemu"}), None, AdmissionContext({}, registry()))
    assert there.problems == []  # where no endpoint can be looked up, its name is not judged


def test_the_pods_network_is_joined_where_the_endpoint_maps_it() -> None:
    def networks(*mapped: Obj) -> Any:
        spec = {"uri": "qemu+ssh://root@h/system", "networks": list(mapped)}

        def lookup(resource: Resource, namespace: str, name: str) -> Obj | None:
            return {"metadata": {"name": name}, "spec": spec} if resource == ENDPOINTS else None

        made = admit("CREATE", VMIS, machine(), None, AdmissionContext({}, registry(), lookup))
        return made.obj["spec"].get("networks"), any("maps no network" in one for one in made.warnings)

    assert networks({"name": "pod", "network": "lan"}) == ([{"name": "default", "pod": {}}], False)
    assert networks() == (None, True)
