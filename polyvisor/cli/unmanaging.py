"""``unmanage``: the machine is deleted with the word that its domain stays, then what stood for its disks.

A claim that was filled for the machine by the cluster keeps its data in the cluster's hands, so it stays; those that
stand for disks which the host had before go, and the disks stay where they are.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from polyvisor.api import adopted
from polyvisor.api.cluster_resources import PVS
from polyvisor.api.node_names import ENDPOINT_CSI_DRIVER
from polyvisor.api.reading import nested
from polyvisor.api.resource import Resource
from polyvisor.api.resources import PVCS, VMIS, VMS
from polyvisor.api.volumes import claims_of
from polyvisor.cli.client import MERGE, Client, Obj
from polyvisor.cli.context import Session
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.lifecycle import machine_name
from polyvisor.cli.output import note, say
from polyvisor.kube.errors import ApiError

LOOK_SECONDS = 0.3


def unmanage(session: Session, namespace: str, words: Sequence[str], timeout: float) -> None:
    """Let go of machines; all are looked at before the first is."""
    client = session.client
    machines = [client.get(VMS.path(namespace, machine_name(word))) for word in words]
    for vm in machines:
        if not _endpoint(vm):
            name = vm["metadata"]["name"]
            message = f"VirtualMachine {namespace}/{name} is not on an endpoint; there is nothing that would run on"
            raise CliError(message, ExitCode.INVALID, f"`polyvisor delete vm {name}` deletes it, with its guest.")
    for vm in machines:
        _let_go(client, vm, timeout)


def _endpoint(vm: Obj) -> str:
    return str(nested(vm["spec"]["template"]["spec"], "hypervisor").get("endpoint") or "")


def _let_go(client: Client, vm: Obj, timeout: float) -> None:
    namespace, name = vm["metadata"]["namespace"], vm["metadata"]["name"]
    path, instance = VMS.path(namespace, name), VMIS.path(namespace, name)
    domain = _domain(client, instance)
    claims, volumes = _static(client, vm)
    policy = {"metadata": {"annotations": {adopted.DELETION_POLICY_ANNOTATION: adopted.RETAIN}}}
    client.request("PATCH", path, policy, content_type=MERGE)
    client.request("DELETE", path)
    deadline = time.monotonic() + timeout
    for one in (instance, path):
        if not _gone(client, one, deadline):
            message = f"VirtualMachine {namespace}/{name} is not let go of after {timeout:g} s"
            hint = f"`polyvisor describe vmi {name}` says what it waits for; its guest is not touched meanwhile."
            raise CliError(message, ExitCode.TIMEOUT, hint)
    for resource, space, names in ((PVCS, namespace, claims), (PVS, None, volumes)):
        for one in names:
            _delete(client, resource, space, one, deadline)
    which = f"domain {domain}" if domain else "its domain"
    state = "runs on" if domain else "stays as it is"
    say(f"{namespace}/{name} is let go of: {which} of endpoint {_endpoint(vm)} {state}, its disks stay on the host")


def _domain(client: Client, path: str) -> str:
    """Return the name of the domain that runs for a machine, empty if none does."""
    try:
        status = client.get(path).get("status") or {}
    except ApiError as error:
        if error.not_found:
            return ""
        raise
    return str(nested(status, "hypervisor", "domain").get("name") or "")


def _static(client: Client, vm: Obj) -> tuple[list[str], list[str]]:
    """Return a machine's claims that stand for disks of the host, and their volumes; tell of the others."""
    claims, volumes = [], []
    namespace = vm["metadata"]["namespace"]
    for name in claims_of(vm["spec"]["template"]["spec"]):
        with suppress(ApiError):
            claim = client.get(PVCS.path(namespace, name))
            volume = client.get(PVS.path(name=str(claim["spec"].get("volumeName") or "none")))
            ours = nested(volume["spec"], "csi").get("driver") == ENDPOINT_CSI_DRIVER
            if ours and volume["spec"].get("persistentVolumeReclaimPolicy") == "Retain":
                claims.append(name)
                volumes.append(volume["metadata"]["name"])
                continue
        note(f"claim {namespace}/{name} stays: its disk was made for it")
    return claims, volumes


def _delete(client: Client, resource: Resource, namespace: str | None, name: str, deadline: float) -> None:
    path = resource.path(namespace, name)
    try:
        client.request("DELETE", path)
    except ApiError as error:
        if error.not_found:
            return
        raise
    if not _gone(client, path, deadline):
        note(f"{resource.kind} {name} is being deleted still; something uses it")


def _gone(client: Client, path: str, deadline: float) -> bool:
    while True:
        try:
            client.get(path)
        except ApiError as error:
            if error.not_found:
                return True
            raise
        if time.monotonic() >= deadline:
            return False
        time.sleep(LOOK_SECONDS)
