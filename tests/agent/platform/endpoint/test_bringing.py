"""Which volume of a host a claim stands for, and when there is none; and when a pool is too full."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from polyvisor.agent.errors import AgentError
from polyvisor.agent.platform.endpoint.bringing import Bringer
from polyvisor.agent.platform.endpoint.pools import Pool, need_room
from polyvisor.agent.storage.making import Inputs
from polyvisor.api import Obj
from polyvisor.domain import HostPath

VMI = {
    "metadata": {"name": "web", "namespace": "shop", "uid": "u"},
    "spec": {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}], "domain": {}},
}


class Host:
    """As much of a keeper as is asked: an endpoint with one pool, in which there is one volume."""

    endpoint: ClassVar[Obj] = {
        "metadata": {"name": "rack4"},
        "spec": {"storage": [{"storageClass": "a", "pool": "images"}]},
    }

    async def ask(self, operation: str, *_: Any, **asked: Any) -> Obj:
        assert (operation, asked) == ("volume", {"pool": "images", "name": "disk"})
        return {"name": "disk", "path": "/images/disk", "format": "qcow2", "capacity": 1 << 20, "block": False}


def volume(handle: str, driver: str = "endpoint.hypervisor.kubevirt.io", **attributes: str) -> Obj:
    return {"spec": {"csi": {"driver": driver, "volumeHandle": handle, "volumeAttributes": attributes}}}


async def brought(claim: Obj | None, **volumes: Obj) -> Any:
    bringer = Bringer(Host(), Path("/nonexistent"))  # type: ignore[arg-type]
    inputs = Inputs(claims={"data": claim} if claim is not None else {})
    return await bringer._claimed(VMI, "data", inputs, volumes)


async def test_a_claim_is_the_volume_that_its_persistent_volume_names() -> None:
    found = await brought({"spec": {"volumeName": "pv"}}, pv=volume("rack4/images/disk", format="raw"))
    assert found.disk().path == HostPath("/images/disk")
    assert found.format == "raw"


@pytest.mark.parametrize(
    ("claim", "bound", "message", "retry"),
    [
        (None, {}, "does not exist", True),
        ({"spec": {}}, {}, "is not bound to a volume yet", True),
        ({"spec": {}, "status": {"phase": "Bound"}}, {}, "is a folder of this machine", False),
        ({"spec": {"volumeName": "pv"}}, volume("rack5/images/disk"), "is not a disk on the host of endpoint", False),
        ({"spec": {"volumeName": "pv"}}, volume("rack4/images/disk", "other"), "is not a disk on the host", False),
        ({"spec": {"volumeName": "pv"}}, volume("rack4/secret/disk"), "which endpoint rack4 does not map", True),
    ],
)
async def test_a_claim_that_is_no_volume_there(claim: Obj | None, bound: Obj, message: str, retry: bool) -> None:
    with pytest.raises(AgentError, match=message) as found:
        await brought(claim, pv=bound)
    assert found.value.retry is retry


def test_what_does_not_fit_is_not_brought() -> None:
    need_room(Pool("images", "dir", 1 << 30), 1 << 29, "an image")
    with pytest.raises(AgentError, match="storage pool images on the host has 1Gi bytes free, and an image needs 1Gi"):
        need_room(Pool("images", "dir", 1 << 30), 1 << 30, "an image")
