"""A cluster in memory: it keeps what it is sent, and what is applied is ready at once, or as a test has it."""

from __future__ import annotations

import copy
import json
from typing import Any

import httpx

from polyvisor.kube import Connection, KubeClient

Obj = dict[str, Any]
COLLECTIONS = ("nodes", "pods", "virtualmachines", "virtualmachineinstances", "hypervisorendpoints")
READY: dict[str, Obj] = {
    "CustomResourceDefinition": {"conditions": [{"type": "Established", "status": "True"}]},
    "APIService": {"conditions": [{"type": "Available", "status": "True"}]},
    "KubeVirt": {"conditions": [{"type": "Available", "status": "True"}]},
    "Deployment": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2},
    "DaemonSet": {"observedGeneration": 1, "desiredNumberScheduled": 1, "numberAvailable": 1}
    | {"updatedNumberScheduled": 1},
}


class FakeCluster:
    def __init__(self) -> None:
        self.objects: dict[str, Obj] = {}
        self.applied: list[str] = []
        self.deleted: list[str] = []
        self.ready = copy.deepcopy(READY)
        self.sticky: set[str] = set()

    def client(self) -> KubeClient:
        return KubeClient(Connection("http://cluster"), transport=httpx.MockTransport(self._answer))

    def named(self, kind: str) -> list[str]:
        return sorted(one["metadata"]["name"] for one in self.objects.values() if one["kind"] == kind)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path, body = request.url.path, json.loads(request.content or b"null")
        found = self.objects.get(path)
        if request.method == "PATCH" and "apply" in request.headers["content-type"]:
            self.applied.append(f"{body['kind']} {body['metadata']['name']}")
            kept = {"annotations": found["metadata"].get("annotations")} if found else {}
            new = {**body, "metadata": {**kept, **body["metadata"], "generation": 1}}
            self.objects[path] = new | {"status": self.ready.get(body["kind"], {})}
            return httpx.Response(200, json=self.objects[path])
        if request.method == "PATCH" and found:
            for part, change in body["metadata"].items():
                for key, value in change.items():
                    assert value is None
                    del found["metadata"][part][key]
            return httpx.Response(200, json=found)
        if request.method == "POST":
            self.objects[f"{path}/{body['metadata']['name']}"] = body
            return httpx.Response(201, json=body)
        if request.method == "DELETE" and found:
            if path not in self.sticky:
                del self.objects[path]
            self.deleted.append(f"{found['kind']} {found['metadata']['name']}")
            return httpx.Response(200, json=found)
        if request.method == "GET" and found:
            return httpx.Response(200, json=found)
        plural = path.rpartition("/")[2]
        if request.method == "GET" and plural in COLLECTIONS:
            items = [one for at, one in self.objects.items() if at.rpartition("/")[0].endswith(f"/{plural}")]
            return httpx.Response(200, json={"items": items, "metadata": {"resourceVersion": "1"}})
        status = {"kind": "Status", "code": 404, "reason": "NotFound", "message": f"{path} not found"}
        return httpx.Response(404, json=status)
