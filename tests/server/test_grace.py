"""A stop with a grace period of its own, against an API server that admits as ours and a cluster's do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api import Problem
from polyvisor.api.resources import VMIS, VMS, Resource
from polyvisor.drivers import registry
from polyvisor.server.subresources import Subresources
from tests.cluster import running
from tests.server.fakes import FakeNode
from tests.server.test_webhooks import vm, vmi

Obj = dict[str, Any]
BASE = "/apis/subresources.kubevirt.io/v1/namespaces/default/virtualmachines/demo"


def admitted(
    operation: str, resource: Resource, obj: Obj, old: Obj | None
) -> tuple[Obj, Sequence[Problem], Sequence[str]]:
    found = admit(operation, resource, obj, old, AdmissionContext({}, registry()))  # type: ignore[arg-type]
    return found.obj, found.problems, found.warnings


@pytest.mark.parametrize(("action", "body"), [("stop", {"gracePeriod": 0}), ("restart", {"gracePeriodSeconds": 0})])
async def test_the_grace_period_of_a_request_reaches_the_instance(tmp_path: Path, action: str, body: Obj) -> None:
    async with running(tmp_path, admitted) as client:
        await client.create(VMS, vm(runStrategy="Always"))
        await client.create(VMIS, vmi())
        await client.patch(VMIS, "demo", {"status": {"phase": "Running"}}, "default")
        transport = httpx.ASGITransport(Starlette(routes=Subresources(client, FakeNode()).routes()))
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as caller:
            answer = await caller.put(f"{BASE}/{action}", json=body)
        assert answer.status_code == 202, answer.text
        assert (await client.get(VMIS, "demo", "default"))["spec"]["terminationGracePeriodSeconds"] == 0
