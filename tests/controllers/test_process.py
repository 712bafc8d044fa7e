"""virt-controller as a process: two replicas, of which one works."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from polyvisor.api import names
from polyvisor.api.resources import EVENTS, KUBEVIRTS, LEASES, NODES, VMIS, VMS
from polyvisor.controllers.process import Controllers
from polyvisor.drivers import DriverRegistry
from polyvisor.kube import Informer
from polyvisor.kube.tasks import end_task
from polyvisor.process.running import Restart
from tests.cluster import KUBEVIRT, TOKEN, running, shown_by, told_version
from tests.controllers.conftest import instance
from tests.drivers_for_tests import FakeDriver, node


def options(server: str, folder: Path, identity: str) -> argparse.Namespace:
    path = folder / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": server}}],
                "users": [{"name": "u", "user": {"token": TOKEN}}],
            }
        )
    )
    return argparse.Namespace(
        kubeconfig=str(path),
        namespace="kubevirt",
        bind="127.0.0.1",
        health_port=0,
        identity=identity,
        lease_seconds=9.0,  # a busy machine must not lose it by being slow
    )


async def within(seconds: float, what: Any) -> None:
    async with asyncio.timeout(seconds):
        await what


async def test_the_second_replica_takes_over_and_the_first_ends(tmp_path: Path) -> None:
    drivers = DriverRegistry([FakeDriver("alpha")])
    async with running(tmp_path) as client:
        await client.create(NODES, node("n1", "alpha", "alpha.fast"))
        server = client.connection.server
        one = Controllers(options(server, tmp_path, "one"), drivers, CollectorRegistry())
        two = Controllers(options(server, tmp_path, "two"), drivers, CollectorRegistry())
        first = asyncio.create_task(one.run())
        await within(10, one.working.wait())
        second = asyncio.create_task(two.run())
        body = {"runStrategy": "Always", "template": {"spec": instance("m")["spec"]}}
        metadata = {"name": "m", "namespace": "default"}
        vm = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": metadata, "spec": body}
        async with Informer(client, VMIS) as vmis:
            await client.create(VMS, vm)
            await vmis.wait_until(lambda i: i.get("default", "m"), 10)
            assert not two.working.is_set()
            assert (await shown_by(two.health_port, "/readyz")).status_code == 200
            await told_version(two.health_port, await client.create(KUBEVIRTS, KUBEVIRT))
            await client.patch(LEASES, names.CONTROLLER_APP, {"spec": {"holderIdentity": "two"}}, "kubevirt")
            with pytest.raises(Restart, match="two has it"):
                await asyncio.wait_for(first, 10)
            assert not one.working.is_set()
            await within(10, two.working.wait())
            await client.create(VMS, vm | {"metadata": metadata | {"name": "m2"}})
            await vmis.wait_until(lambda i: i.get("default", "m2"), 10)
        assert await end_task(second) is None
        created = [e for e in await client.list(EVENTS, "default") if e["reason"] == "SuccessfulCreate"]
        assert len({e["involvedObject"]["name"] + e["message"] for e in created}) == len(created)
