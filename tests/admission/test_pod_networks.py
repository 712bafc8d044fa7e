"""Networks that annotations ask Multus for, which go to the launcher Pod as they are written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.admission.context import Access, Requester
from polyvisor.api.resources import REPLICA_SETS, VMIS, VMS
from polyvisor.drivers import registry
from tests.admission.test_endpoint_rights import machine

MAY_READ = Access("get", "k8s.cni.cncf.io", "network-attachment-definitions", "secret", "net")
KEYS = ("k8s.v1.cni.cncf.io/networks", "v1.multus-cni.io/default-network")
FOREIGN = ("secret/net", "mine/a, secret/net@eth1", json.dumps([{"name": "net", "namespace": "secret"}]))


def problems(resource: Any, annotations: dict[str, str], *rights: Access) -> list[str]:
    requester = Requester("alice", ours=False, may=lambda access: access in rights)
    context = AdmissionContext({"developerConfiguration": {"useEmulation": True}}, registry(), requester=requester)
    found = admit("CREATE", resource, machine(resource, annotations, endpoint=""), None, context)
    return [one.field for one in found.problems]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", FOREIGN)
@pytest.mark.parametrize("resource", [VMIS, VMS, REPLICA_SETS])
def test_another_namespaces_network_is_asked_for_by_who_may_read_it(resource: Any, value: str, key: str) -> None:
    path = "metadata" if resource == VMIS else "spec.template.metadata"
    assert problems(resource, {key: value}) == [f"{path}.annotations[{key}]"]
    assert problems(resource, {key: value}, MAY_READ) == []


@pytest.mark.parametrize("value", ["net", "mine/net", "default/net@eth1", '[{"name": "net"}]', ""])
def test_ones_own_networks_and_everybodys_are_free(value: str) -> None:
    assert problems(VMIS, {KEYS[0]: value}) == []


UNREADABLE = ['[{"name": "net"', '[["secret/net"]]', '"secret/net"', '{"namespace": "secret"}', "secret/"]
TOO_MANY = ["net," * 65, f"secret/{'n' * 254}"]


@pytest.mark.parametrize("value", [*UNREADABLE, *TOO_MANY], ids=range(len(UNREADABLE) + len(TOO_MANY)))
def test_what_cannot_be_read_is_refused(value: str) -> None:
    assert problems(VMIS, {KEYS[0]: value}) == [f"metadata.annotations[{KEYS[0]}]"]
