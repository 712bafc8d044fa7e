"""What is said to a running guest and asked of it: ``soft-reboot``, ``reset``, ``guestosinfo``, ``fslist``, ...

Also ``expose`` and ``permitted-devices``, which make and read objects of the cluster.
"""

from __future__ import annotations

from typing import Any

from polyvisor.api.reading import devices_of, labels_of, nested
from polyvisor.cli.context import Session
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.lifecycle import machine_words, subresource
from polyvisor.cli.output import Output, print_structured, say

Obj = dict[str, Any]
SERVICE_TYPES = ("ClusterIP", "NodePort", "LoadBalancer")
FAMILIES = {"ipv4": "IPv4", "ipv6": "IPv6"}
POLICIES = ("SingleStack", "PreferDualStack", "RequireDualStack")
KUBEVIRTS = "/apis/kubevirt.io/v1/kubevirts"
NODE_LABEL = "kubevirt.io/nodeName"


def act(session: Session, namespace: str, name: str, action: str) -> None:
    """Do something to a running machine."""
    session.client.request("PUT", subresource(namespace, "virtualmachineinstances", name, action), {})
    say(f"VMI {name} was scheduled to {action}")


def show(session: Session, namespace: str, name: str, question: str) -> None:
    """Print what the agent inside a guest answers, as JSON."""
    print_structured(session.client.get(subresource(namespace, "virtualmachineinstances", name, question)), Output.JSON)


def expose(
    session: Session,
    namespace: str,
    words: list[str],
    *,
    name: str,
    port: int,
    port_name: str,
    protocol: str,
    target_port: str,
    kind: str,
    cluster_ip: str,
    external_ip: str,
    ip_family: str,
    ip_family_policy: str,
) -> None:
    """Make a Service for a machine's ports."""
    plural, machine = machine_words(words, "expose")
    obj = session.client.get(f"/apis/kubevirt.io/v1/namespaces/{namespace}/{plural}/{machine}")
    source = obj["spec"]["template"] if plural == "virtualmachines" else obj
    labels = {k: v for k, v in labels_of(source).items() if k != NODE_LABEL}
    if not labels:
        raise CliError(f"{machine} has no label that a Service could select it by", ExitCode.INVALID)
    if kind not in SERVICE_TYPES:
        raise CliError(f"--type {kind!r}: {', '.join(SERVICE_TYPES)}", ExitCode.USAGE)
    if protocol not in ("TCP", "UDP", "SCTP"):
        raise CliError(f"--protocol {protocol!r}: TCP, UDP or SCTP", ExitCode.USAGE)
    ports: list[Obj] = []
    if port:
        target: int | str = int(target_port) if target_port.isdigit() else target_port
        ports = [{"port": port, "protocol": protocol, "targetPort": target or port}]
        if port_name:
            ports[0]["name"] = port_name
    else:
        ports = _ports(source["spec"])
    if not ports:
        raise CliError("no port is given and the machine declares none", ExitCode.USAGE, "Give --port.")
    spec: Obj = {"selector": labels, "ports": ports, "type": kind}
    if cluster_ip:
        spec["clusterIP"] = cluster_ip
    if external_ip:
        spec["externalIPs"] = [external_ip]
    if ip_family:
        try:
            spec["ipFamilies"] = [FAMILIES[each.strip().lower()] for each in ip_family.split(",")]
        except KeyError as error:
            raise CliError(f"--ip-family {ip_family!r}: IPv4, IPv6, or both with a comma", ExitCode.USAGE) from error
    if ip_family_policy:
        if ip_family_policy not in POLICIES:
            raise CliError(f"--ip-family-policy {ip_family_policy!r}: {', '.join(POLICIES)}", ExitCode.USAGE)
        spec["ipFamilyPolicy"] = ip_family_policy
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
    session.client.request("POST", f"/api/v1/namespaces/{namespace}/services", service)
    say(f"Service {name} successfully created for {'vm' if plural == 'virtualmachines' else 'vmi'} {machine}")


def _ports(spec: Obj) -> list[Obj]:
    found: list[Obj] = []
    for card in devices_of(spec).get("interfaces") or []:
        for port in card.get("ports") or []:
            number = port["port"]
            name = port.get("name") or f"port-{len(found) + 1}"
            found.append(
                {"name": name, "port": number, "protocol": port.get("protocol") or "TCP", "targetPort": number}
            )
    return found


def permitted_devices(session: Session) -> None:
    """Print which devices of the nodes machines may have."""
    items = session.client.get(KUBEVIRTS).get("items") or []
    permitted: Obj = {}
    if items:
        permitted = nested(items[0], "spec", "configuration").get("permittedHostDevices") or {}
    hosts = [each.get("resourceName", "") for each in permitted.get("pciHostDevices") or []]
    hosts += [each.get("resourceName", "") for each in permitted.get("usb") or []]
    gpus = [each.get("resourceName", "") for each in permitted.get("mediatedDevices") or []]
    say("Permitted Devices:")
    for title, found in (("Host Devices", hosts), ("GPU Devices", gpus)):
        say(f"{title}:")
        for each in found:
            say(each)
