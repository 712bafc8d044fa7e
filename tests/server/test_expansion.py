"""Instance types as virt-api sees them: in a review, and written out by expand-spec and expand-vm-spec."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from polyvisor.admission import AdmissionContext
from polyvisor.api.resources import CLUSTER_INSTANCETYPES, PREFERENCES, VMS
from polyvisor.drivers import registry
from polyvisor.kube import KubeClient
from polyvisor.server.subresources import Subresources
from polyvisor.server.webhooks import Webhooks
from tests.cluster import running
from tests.server.fakes import FakeNode
from tests.server.test_webhooks import request, vm

Obj = dict[str, Any]
BASE = "/apis/subresources.kubevirt.io/v1/namespaces/default"


@dataclass
class Served:
    client: KubeClient
    caller: httpx.AsyncClient


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with running(tmp_path) as client:
        size = {"cpu": {"guest": 2}, "memory": {"guest": "128Mi"}}
        for resource, namespace, spec in (
            (CLUSTER_INSTANCETYPES, {}, size),
            (PREFERENCES, {"namespace": "default"}, {"devices": {"preferredRng": {}}}),
        ):
            body = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": "one", **namespace}}
            await client.create(resource, body | {"spec": spec})
        webhooks = Webhooks(client, lambda: AdmissionContext({}, registry()))
        routes = [*webhooks.routes(), *Subresources(client, FakeNode()).routes()]
        transport = httpx.ASGITransport(Starlette(routes=routes))
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as caller:
            yield Served(client, caller)


def sized(**domain: Any) -> Obj:
    references = {"instancetype": {"name": "one"}, "preference": {"name": "one", "kind": "VirtualMachinePreference"}}
    return vm(**references, template={"spec": {"domain": {"devices": {}, **domain}}})


async def review(served: Served, obj: Obj) -> Obj:
    body = {"apiVersion": "admission.k8s.io/v1", "request": request(VMS, obj)}
    found: Obj = (await served.caller.post("/mutate", json=body)).json()["response"]
    return found


async def test_a_review_reads_what_the_machine_refers_to(served: Served) -> None:
    assert (await review(served, sized()))["allowed"]
    answer = await review(served, sized(memory={"guest": "1Gi"}))
    (cause,) = answer["status"]["details"]["causes"]
    assert cause == {
        "reason": "FieldValueInvalid",
        "field": "spec.template.spec.domain.memory.guest",
        "message": "VM field(s) spec.template.spec.domain.memory.guest conflicts with selected instance type",
    }
    missing = sized()
    missing["spec"]["instancetype"]["name"] = "two"
    (cause,) = (await review(served, missing))["status"]["details"]["causes"]
    assert (cause["reason"], cause["field"]) == ("FieldValueNotFound", "spec.instancetype")


def check_expanded(found: Obj) -> None:
    assert "instancetype" not in found["spec"]
    assert "preference" not in found["spec"]
    domain = found["spec"]["template"]["spec"]["domain"]
    assert domain["cpu"] == {"sockets": 1, "cores": 2, "threads": 1}
    assert domain["memory"] == {"guest": "128Mi"}
    assert domain["devices"] == {"rng": {}}


async def test_a_stored_machine_is_written_out(served: Served) -> None:
    stored = await served.client.create(VMS, sized())
    answer = await served.caller.get(f"{BASE}/virtualmachines/demo/expand-spec")
    assert answer.status_code == 200, answer.text
    check_expanded(answer.json())
    assert answer.json()["metadata"]["uid"] == stored["metadata"]["uid"]
    assert (await served.client.get(VMS, "demo", "default"))["spec"] == stored["spec"]


async def test_a_machine_without_references_is_given_back(served: Served) -> None:
    stored = await served.client.create(VMS, vm())
    answer = await served.caller.get(f"{BASE}/virtualmachines/demo/expand-spec")
    assert answer.json() == stored


async def test_a_given_machine_is_written_out_in_the_namespace_of_the_request(served: Served) -> None:
    given = sized()
    given["metadata"]["namespace"] = "elsewhere"
    answer = await served.caller.put(f"{BASE}/expand-vm-spec", json=given)
    assert answer.status_code == 200, answer.text
    check_expanded(answer.json())
    assert answer.json()["metadata"]["namespace"] == "default"
    other = f"{BASE.replace('default', 'elsewhere')}/expand-vm-spec"
    refused = await served.caller.put(other, json=copy.deepcopy(given))
    assert refused.status_code == 400
    (cause,) = refused.json()["details"]["causes"]
    assert cause["field"] == "spec.preference"
    assert "not found" in cause["message"]


async def test_what_cannot_be_expanded_is_told_with_the_fields(served: Served) -> None:
    answer = await served.caller.put(f"{BASE}/expand-vm-spec", json=sized(cpu={"cores": 3}))
    assert answer.status_code == 400
    (cause,) = answer.json()["details"]["causes"]
    assert cause["field"] == "spec.template.spec.domain.cpu.cores"
