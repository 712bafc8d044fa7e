"""The Node that stands for an endpoint's host, so that Pods can be bound to it: its object, its Lease, its conditions.

The Node is Ready as long as the agent lives, whatever the host does: a Node that is not Ready would have its Pods
evicted, and nothing is known of a guest on a host that cannot be reached. Whether the host is reached is a condition
of its own, with a taint that keeps new machines away.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import replace

from lxml import etree

from polyvisor import __version__
from polyvisor.agent.images.oci import ARCHITECTURES
from polyvisor.agent.node import probing
from polyvisor.agent.node.leases import renew_lease
from polyvisor.agent.node.registration import HEARTBEAT_SECONDS, RENEW_SECONDS, now
from polyvisor.agent.platform.endpoint.plan import Observed, blocked, resources_of
from polyvisor.agent.platform.endpoint.platform import Platform, standalone
from polyvisor.api import Obj, names
from polyvisor.api.endpoint_names import PROVIDER, node_of_endpoint
from polyvisor.api.node_names import DRIVERS_ANNOTATION, ENDPOINT_LABEL
from polyvisor.api.resources import ENDPOINTS, NODES
from polyvisor.domain import reading
from polyvisor.drivers.at_endpoint import at_endpoint
from polyvisor.drivers.base import Driver, ProbeResult
from polyvisor.drivers.verdict import shown
from polyvisor.kube import ApiError, KubeClient

REACHABLE = "HypervisorReachable"
UNREACHABLE_TAINT = "hypervisor.kubevirt.io/unreachable"
_ARCHITECTURE = re.compile(r"[a-z0-9_]{1,32}")
log = logging.getLogger("polyvisor.endpoints")


class HostNode:
    """Keeps the Node of one endpoint; :meth:`run` is its life, :meth:`observed` tells what is new of the host."""

    def __init__(self, client: KubeClient, endpoint: Obj, address: str, platform: Platform | None = None) -> None:
        """``client`` is for the Node's taints, which the Node itself may not change; the rest is the platform's."""
        self._administrator = client
        self._platform = platform or standalone(client)
        self._client = self._platform.node
        self._endpoint = endpoint
        self._address = address
        self._news = asyncio.Event()
        self._driver: Driver | None = None
        self._seen: Observed | None = None
        self._since: dict[str, tuple[str, str]] = {}
        self.name = node_of_endpoint(endpoint["metadata"]["name"])

    def observed(self, endpoint: Obj, seen: Observed, driver: Driver | None) -> None:
        """Take in what was observed of the host."""
        if (endpoint["spec"], seen, driver) != (self._endpoint["spec"], self._seen, self._driver):
            self._endpoint, self._seen, self._driver = endpoint, seen, driver
            self._news.set()

    async def run(self) -> None:
        """Keep Node and Lease until cancelled."""
        while True:
            pause = RENEW_SECONDS
            self._news.clear()
            try:
                await self._keep()
            except ApiError as error:
                pause = 2.0
                log.warning("node %s: %s; again in %.0f s", self.name, error, pause)
            except Exception:  # whatever a host makes of it, the others' Nodes and this one's Lease go on
                pause = 2.0
                log.exception("node %s: failed; again in %.0f s", self.name, pause)
            try:
                async with asyncio.timeout(pause):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def remove(self) -> None:
        """Take the Node away: its endpoint is gone."""
        try:
            node = await self._client.get(NODES, self.name)
            if self._is_ours(node):
                await self._administrator.delete(NODES, self.name, uid=node["metadata"]["uid"])
        except ApiError as error:
            if not error.not_found:
                raise

    async def _keep(self) -> None:
        seen = self._seen
        if seen is None or self._endpoint["spec"].get("management") == "Observe":
            return
        try:
            node = await self._client.get(NODES, self.name)
        except ApiError as error:
            if not error.not_found:
                raise
            if seen.host is None:  # it begins with the first connection
                return
            node = await self._make()
        if not self._is_ours(node):
            log.error("there is a Node %s that is not this endpoint's; it is left alone", self.name)
            return
        await self._write(node, seen)
        await renew_lease(self._client, self.name, lambda: self._client.get(NODES, self.name))

    def _is_ours(self, node: Obj) -> bool:
        labels = node["metadata"].get("labels") or {}
        ours = f"{PROVIDER}{self._endpoint['metadata']['uid']}"
        named = labels.get(ENDPOINT_LABEL) == self._endpoint["metadata"]["name"]
        return named and (node.get("spec") or {}).get("providerID") == ours

    async def _make(self) -> Obj:
        name = self._endpoint["metadata"]["name"]
        labels = {names.HOSTNAME_LABEL: self.name, ENDPOINT_LABEL: name}
        taint = {"key": names.VIRTUAL_NODE_TAINT, "value": name, "effect": "NoSchedule"}
        uid = self._endpoint["metadata"]["uid"]
        spec = {"providerID": f"{PROVIDER}{uid}", "taints": [taint]}
        metadata: Obj = {"name": self.name, "labels": labels}
        if self._platform.only:  # whose agent ends with the endpoint, so that it cannot take the Node away
            owner = {"apiVersion": ENDPOINTS.api_version, "kind": ENDPOINTS.kind, "name": name, "uid": uid}
            metadata["ownerReferences"] = [owner]
        node = {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec}
        return await self._client.create(NODES, node)

    async def _write(self, node: Obj, seen: Observed) -> None:
        """Bring labels, taints and status in line with what is known; what is not known stays."""
        metadata, spec = node["metadata"], node.get("spec") or {}
        heard = (metadata.get("annotations") or {}).get(names.HEARTBEAT_ANNOTATION)
        change: Obj = {"labels": {}, "annotations": {}}
        if seen.host is not None and self._driver is not None:
            result = probed(self._driver, seen)
            wanted = {
                **probing.labels_of({self._driver.name: result}),
                ENDPOINT_LABEL: self._endpoint["metadata"]["name"],
            }
            change["labels"] = probing.label_changes(node, wanted)
            if architecture := architecture_of(seen.host.capabilities):
                change["labels"] |= _unless(metadata.get("labels"), names.ARCH_LABEL, ARCHITECTURES.get(architecture))
            report = json.dumps(probing.report_of([self._driver], {self._driver.name: result}), separators=(",", ":"))
            change["annotations"] |= _unless(metadata.get("annotations"), DRIVERS_ANNOTATION, report)
        takes = "false" if blocked(self._endpoint["spec"], seen) is not None else "true"
        change["labels"] |= _unless(metadata.get("labels"), names.NODE_SCHEDULABLE_LABEL, takes)
        if not heard or _age(heard) > HEARTBEAT_SECONDS / 2:
            change["annotations"][names.HEARTBEAT_ANNOTATION] = now()
        body: Obj = {key: value for key, value in change.items() if value}
        if body:
            node = await self._client.patch(NODES, self.name, {"metadata": body})
        taints = _taints(spec.get("taints") or [], reached=seen.failure is None)
        if taints != (spec.get("taints") or []):
            where = {"resourceVersion": node["metadata"]["resourceVersion"]}
            await self._administrator.patch(NODES, self.name, {"metadata": where, "spec": {"taints": taints}})
        status = self._status(node, seen)
        old = node.get("status") or {}
        if any(old.get(key) != value for key, value in status.items()):
            await self._client.patch(NODES, self.name, {"status": status}, subresource="status")

    def _status(self, node: Obj, seen: Observed) -> Obj:
        told = {one["type"]: one for one in (node.get("status") or {}).get("conditions") or []}
        failure = seen.failure
        reached = ("True", "Connected", "the host is connected")
        if failure is not None:
            reached = ("False", failure.reason, failure.message)
        conditions = [
            _condition(told, "Ready", "True", "AgentReady", "the agent looks after this host"),
            _condition(told, REACHABLE, *reached),
        ]
        status: Obj = {
            "conditions": conditions,
            "addresses": [{"type": "InternalIP", "address": self._address}, {"type": "Hostname", "address": self.name}],
        }
        if self._platform.port:
            status["daemonEndpoints"] = {"kubeletEndpoint": {"Port": self._platform.port}}
        if seen.host is None:
            return status
        architecture = architecture_of(seen.host.capabilities)
        status["nodeInfo"] = {
            "architecture": ARCHITECTURES.get(architecture, architecture),
            "bootID": "",
            "containerRuntimeVersion": f"polyvisor://{__version__}",
            "kernelVersion": "",
            "kubeProxyVersion": "",
            "kubeletVersion": f"polyvisor-{__version__}",
            "machineID": seen.host.uuid,
            "operatingSystem": "",
            "osImage": f"{seen.driver} {seen.host.hypervisor_version}".strip(),
            "systemUUID": seen.host.uuid,
        }
        return status | resources_of(self._endpoint["spec"], seen.host, seen)


def probed(driver: Driver, seen: Observed) -> ProbeResult:
    """Return what a connected host shows of its driver, as a probe would find it on a node."""
    host = seen.host
    assert host is not None
    marks = driver.keeps_metadata or driver.keeps_description
    offered = driver.offered(parsed(host.capabilities)) if marks else ()
    reason = "" if offered else "the host offers no kind of guest that the driver knows"
    if not marks:
        reason = "libvirt cannot mark a domain of this hypervisor as an installation's"
    found = ProbeResult(
        bool(offered), reason, host.hypervisor_version, host.libvirt_version, offered, cpus=host.guest_cpus
    )
    return replace(found, facts=shown(at_endpoint(driver), found))


def architecture_of(capabilities: str) -> str:
    """Return the architecture of a host, as libvirt calls it; empty if it does not tell."""
    found = (parsed(capabilities).findtext("host/cpu/arch") or "").strip()
    return found if _ARCHITECTURE.fullmatch(found) else ""


def parsed(capabilities: str) -> etree._Element:
    """Return what a host says of itself; nothing where that is no XML."""
    try:
        if capabilities:
            return reading.parsed(capabilities)
    except ValueError as error:
        log.warning("the host describes itself in XML that cannot be used: %s", error)
    return etree.Element("capabilities")


def _condition(told: Mapping[str, Obj], type_: str, status: str, reason: str, message: str) -> Obj:
    old = told.get(type_) or {}
    kept = old.get("status") == status and old.get("lastTransitionTime")
    heard = old.get("lastHeartbeatTime") or now()
    beat = now() if _age(heard) > HEARTBEAT_SECONDS / 2 or not kept else heard
    times = {"lastHeartbeatTime": beat, "lastTransitionTime": kept or now()}
    return {"type": type_, "status": status, "reason": reason, "message": message, **times}


def _taints(there: list[Obj], *, reached: bool) -> list[Obj]:
    """Return a node's taints, with the one of a host that is away if it is."""
    others = [one for one in there if one.get("key") != UNREACHABLE_TAINT]
    return others if reached else [*others, {"key": UNREACHABLE_TAINT, "effect": "NoSchedule"}]


def _unless(there: Mapping[str, str] | None, key: str, value: str | None) -> dict[str, str]:
    return {key: value} if value and (there or {}).get(key) != value else {}


def _age(text: str) -> float:
    from polyvisor.agent.live.status import seconds_of

    return seconds_of(now()) - seconds_of(text)
