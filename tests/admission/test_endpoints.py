"""HypervisorEndpoints at admission: each mistake is one message with its place, and nothing unknown gets through."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api import Obj
from polyvisor.api.resources import ENDPOINTS
from polyvisor.drivers import registry
from polyvisor.process.certificates import make_authority

CONTEXT = AdmissionContext({}, registry())
SECRET = {"secretRef": {"name": "rack4"}}


def endpoint(uri: Any = "qemu+ssh://root@host/system", name: str = "rack4", **spec: Any) -> Obj:
    spec = {"uri": uri, "credentials": SECRET, **spec}
    return {
        "apiVersion": "hypervisor.kubevirt.io/v1alpha1",
        "kind": "HypervisorEndpoint",
        "metadata": {"name": name},
        "spec": {key: value for key, value in spec.items() if value is not None},
    }


def refused(obj: Obj, old: Obj | None = None, context: AdmissionContext = CONTEXT) -> dict[str, str]:
    found = admit("UPDATE" if old else "CREATE", ENDPOINTS, obj, old, context)
    assert found.obj == obj
    return {problem.field: problem.message for problem in found.problems}


def test_a_whole_endpoint_is_accepted() -> None:
    obj = endpoint(
        allowedNamespaces={"selector": {"matchLabels": {"tier": "vms"}}},
        storage=[{"storageClass": "rack4-fast", "pool": "default", "defaultForImages": True}],
        networks=[{"name": "pod", "network": "default", "cidrs": ["192.168.122.0/24", "fd00::/64"], "reachable": True}],
        capacity={"cpu": 8, "memory": "32Gi", "pods": 20},
        management="Observe",
        tls={"insecure": "Never"},
    )
    assert refused(obj) == {}


def test_a_host_s_certificate_may_be_known_by_its_fingerprint_where_libvirt_trusts_by_authorities_alone() -> None:
    pin = ":".join(["aB"] * 32)
    assert refused(endpoint("esx://root@h/", tls={"fingerprint": pin})) == {}
    found = refused(endpoint("esx://root@h/", tls={"fingerprint": pin[:-1]}))["spec.tls.fingerprint"]
    assert "32 pairs of digits with colons" in found
    both = refused(endpoint("esx://root@h/", tls={"fingerprint": pin, "insecure": "Allow"}))
    assert "leave one out" in both["spec.tls.insecure"]
    for uri in ("qemu+tls://h/system", "hyperv://h/"):
        assert "has no effect on" in refused(endpoint(uri, tls={"fingerprint": pin}))["spec.tls.fingerprint"]


@pytest.mark.parametrize("uri", ["qemu:///system", "lxc:///system", "qemu+tls://host/system"])
def test_credentials_may_be_left_out_where_none_are_needed(uri: str) -> None:
    assert refused(endpoint(uri, credentials=None)) == {}


@pytest.mark.parametrize(
    ("spec", "field", "said"),
    [
        ({"uri": None}, "spec.uri", "required"),
        ({"uri": 7}, "spec.uri", "a string is wanted, found the number 7"),
        ({"uri": ""}, "spec.uri", "required; libvirt's connection URI"),
        ({"uri": "qemu+ssh://root@host/system?command=x"}, "spec.uri", "'command' is not accepted"),
        ({"uri": "qemu+ssh://root:pw@host/system"}, "spec.uri", "found a password"),
        ({"uri": "qemu+tcp://host/system"}, "spec.uri", "qemu+tcp does not encrypt the connection"),
        ({"credentials": None}, "spec.credentials", "a Secret with ssh-privatekey and known_hosts"),
        ({"uri": "esx://h/", "credentials": None}, "spec.credentials", "a Secret with username and password"),
        ({"credentials": {}}, "spec.credentials.secretRef", "required"),
        ({"credentials": {"secretRef": {"name": "a/b"}}}, "spec.credentials.secretRef.name", "is not a valid name"),
        ({"tls": {"insecure": True}}, "spec.tls.insecure", "a string is wanted"),
        ({"tls": {"insecure": "Always"}}, "spec.tls.insecure", "Never, Allow"),
        ({"tls": {"caBundle": "x"}}, "spec.tls.caBundle", "has no effect on qemu connections of this kind"),
        ({"uri": "qemu+tls://h/system", "tls": {"caBundle": "x"}}, "spec.tls.caBundle", "base64 of PEM certificates"),
        ({"management": "Some"}, "spec.management", "Full, Observe"),
        ({"allowedNamespaces": {}}, "spec.allowedNamespaces.selector", "required"),
        (
            {"allowedNamespaces": {"selector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}}},
            "spec.allowedNamespaces.selector.matchExpressions[0].operator",
            "Like",
        ),
        (
            {"storage": [{"storageClass": "a", "pool": "../x"}]},
            "spec.storage[0].pool",
            "printable characters without /",
        ),
        (
            {"storage": [{"storageClass": "a", "pool": "x"}, {"storageClass": "a", "pool": "y"}]},
            "spec.storage[1].storageClass",
            "a is spec.storage[0] already",
        ),
        (
            {"storage": [{"storageClass": c, "pool": "x", "defaultForImages": True} for c in "ab"]},
            "spec.storage[1].defaultForImages",
            "images are kept in one pool",
        ),
        ({"networks": [{"name": "podd", "network": "n"}]}, "spec.networks[0].name", "accepted: pod, or"),
        ({"networks": [{"name": "pod", "network": ""}]}, "spec.networks[0].network", "printable"),
        (
            {"networks": [{"name": "pod", "network": "n", "cidrs": ["10.0.0.1/8"]}]},
            "spec.networks[0].cidrs[0]",
            "10.0.0.1/8 has host bits set",
        ),
        ({"capacity": {"cpu": 0}}, "spec.capacity.cpu", "found 0; an amount above 0"),
        ({"capacity": {"memory": "lots"}}, "spec.capacity.memory", "lots"),
        ({"sotrage": []}, "spec.sotrage", "storage"),
        ({"tls": {"fingerprint": "aa"}}, "spec.tls.fingerprint", "has no effect on qemu connections"),
    ],
)
def test_a_mistake_is_one_message_at_its_place(spec: Obj, field: str, said: str) -> None:
    found = refused(endpoint(**spec))
    assert list(found) == [field]
    assert said in found[field]


def test_a_bundle_of_certificates_is_accepted_for_tls() -> None:
    authority = make_authority("test", timedelta(days=1))
    bundle = base64.b64encode(authority.certificate).decode()
    assert refused(endpoint("qemu+tls://h/system", tls={"caBundle": bundle})) == {}


def test_an_unencrypted_connection_takes_the_administrators_word() -> None:
    assert refused(endpoint("qemu+tcp://host/system", tls={"insecure": "Allow"})) == {}


@pytest.mark.parametrize("name", ["a" * 55, "a.b", "A"])
def test_a_name_has_to_fit_a_node(name: str) -> None:
    assert "metadata.name" in refused(endpoint(name=name))


def test_the_scheme_of_an_endpoint_stays() -> None:
    old = endpoint()
    assert refused(endpoint("qemu+tls://other/system"), old) == {}
    found = refused(endpoint("xen+ssh://root@host/system"), old)
    assert "the scheme cannot change from qemu+ssh to xen+ssh" in found["spec.uri"]


def test_a_cluster_has_no_use_for_the_machine_of_the_agent() -> None:
    found = refused(endpoint("qemu:///system"), context=AdmissionContext({}, registry(), cluster=True))
    assert "leads to the machine of the agent itself" in found["spec.uri"]
