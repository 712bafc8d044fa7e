"""Rules for HypervisorEndpoints: what an administrator may write about a host and how it is reached.

The URI is what matters most: with the wrong parameter it would run a program on the agent's machine or trust any host.
What a URI may hold is said in :mod:`polyvisor.drivers.uris`; here is what the rest of the object has to fit to it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from ipaddress import ip_network

from polyvisor.admission.context import AdmissionContext
from polyvisor.admission.values import Findings, amount, items, mapping, text, texts
from polyvisor.api import HypervisorEndpoint, Obj, Problem, check, selectors
from polyvisor.api.metadata import dns_label_error, dns_subdomain_error
from polyvisor.drivers.uris import LOCAL, SSH, TLS, ConnectionUri, UriScheme, driver_of, example, insecure_part, parse

MAX_NAME = 63 - len("endpoint-")
"""Characters of an endpoint's name: the name of its Node, which is also a label's value, is made of it."""
POD_NETWORK = "pod"
_HOST_NAME = re.compile(r"[^\x00-\x1f\x7f/]{1,255}")
_FINGERPRINT = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){31}")
_CERTIFICATES = re.compile(rb"(\s*-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----)+\s*")


def admit_endpoint(obj: Obj, old: Obj | None, context: AdmissionContext, found: Findings) -> None:
    """Check an endpoint."""
    found.problems += check(HypervisorEndpoint, obj)
    name = text(mapping(obj, "metadata").get("name"))
    if name and (error := dns_label_error(name, MAX_NAME)):
        found.add("metadata.name", error)
    spec = mapping(obj, "spec")
    _connection(spec, context, found)
    if old is not None:
        _unchanged(spec, mapping(old, "spec"), found)
    namespaces = spec.get("allowedNamespaces")
    if isinstance(namespaces, dict) and "selector" in namespaces:
        found.problems += selectors.problems(namespaces["selector"], "spec.allowedNamespaces.selector")
    _storage(spec, found)
    _networks(spec, found)
    for resource in ("cpu", "memory", "pods"):
        value = amount(mapping(spec, "capacity").get(resource))
        if value is not None and value <= 0:
            found.add(f"spec.capacity.{resource}", f"found {value}; an amount above 0 is accepted, or nothing")


def _connection(spec: Obj, context: AdmissionContext, found: Findings) -> None:
    given = spec.get("uri")
    if not isinstance(given, str):
        return
    if not given:
        found.required("spec.uri", f"required; libvirt's connection URI, such as {example(context.drivers)}")
        return
    uri, problems = parse(given, context.drivers)
    for problem in problems:
        found.add("spec.uri", problem.message, problem.reason)
    pair = driver_of(uri.scheme, context.drivers) if uri else None
    if uri is None or pair is None or problems:
        return
    scheme = pair[1]
    if context.cluster and uri.local:
        message = f"{given} leads to the machine of the agent itself, which in a cluster is a Pod; name a host"
        found.add("spec.uri", message, "FieldValueForbidden")
    tls = mapping(spec, "tls")
    insecure = insecure_part(uri, scheme)
    if insecure and tls.get("insecure") != "Allow":
        message = f"{insecure} does not encrypt the connection; use another, or set spec.tls.insecure: Allow"
        found.add("spec.uri", message, "FieldValueForbidden")
    if spec.get("credentials") is None and (what := _wanted(uri, scheme)):
        found.required("spec.credentials", f"required for {given[:80]}: a Secret with {what}")
    name = text(mapping(spec, "credentials", "secretRef").get("name"))
    if name and (error := dns_subdomain_error(name)):
        found.add("spec.credentials.secretRef.name", error)
    _authorities(tls, uri, scheme, found)


def _wanted(uri: ConnectionUri, scheme: UriScheme) -> str:
    """Return which keys the connection's Secret cannot do without."""
    if uri.transport == SSH:
        return "ssh-privatekey and known_hosts"
    return "username and password" if scheme.host else ""


def _authorities(tls: Obj, uri: ConnectionUri, scheme: UriScheme, found: Findings) -> None:
    pinned = tls.get("fingerprint")
    if isinstance(pinned, str) and pinned:
        if not scheme.pinned:
            found.add("spec.tls.fingerprint", f"has no effect on {scheme.name} connections; use spec.tls.caBundle")
        elif not _FINGERPRINT.fullmatch(pinned):
            message = f"found {pinned[:100]!r}; accepted: the SHA-256 of a certificate, 32 pairs of digits with colons"
            found.add("spec.tls.fingerprint", message)
        elif tls.get("insecure") == "Allow":
            found.add("spec.tls.insecure", "Allow switches off what spec.tls.fingerprint asks for; leave one out")
    bundle = tls.get("caBundle")
    if not isinstance(bundle, str):
        return
    by_tls = uri.transport == TLS or (uri.transport == LOCAL and uri.host and not scheme.host)
    if not by_tls:
        found.add("spec.tls.caBundle", f"has no effect on {scheme.name} connections of this kind; leave it out")
        return
    try:
        pem = base64.b64decode(bundle, validate=True)
    except (binascii.Error, ValueError):
        pem = b""
    if not _CERTIFICATES.fullmatch(pem):
        found.add("spec.tls.caBundle", "found something else than base64 of PEM certificates, which is accepted")


def _unchanged(spec: Obj, old: Obj, found: Findings) -> None:
    new, before = text(spec.get("uri")).partition(":")[0], text(old.get("uri")).partition(":")[0]
    if before and new.partition("+")[0] != before.partition("+")[0]:
        message = f"the scheme cannot change from {before} to {new[:64]}; remove the endpoint and add another"
        found.add("spec.uri", message, "FieldValueForbidden")


def _storage(spec: Obj, found: Findings) -> None:
    classes: dict[str, str] = {}
    images = ""
    for where, item in items(spec.get("storage"), "spec.storage"):
        name, pool = text(item.get("storageClass")), text(item.get("pool"))
        if name and (error := dns_subdomain_error(name)):
            found.add(f"{where}.storageClass", error)
        elif name and classes.setdefault(name, where) != where:
            found.duplicate(f"{where}.storageClass", f"{name} is {classes[name]} already")
        _host_name(item, pool, f"{where}.pool", found)
        if item.get("defaultForImages") is True:
            if images:
                found.duplicate(f"{where}.defaultForImages", f"{images} has it already; images are kept in one pool")
            images = images or where


def _networks(spec: Obj, found: Findings) -> None:
    names: dict[str, str] = {}
    for where, item in items(spec.get("networks"), "spec.networks"):
        name = text(item.get("name"))
        namespace, slash, attachment = name.partition("/")
        if (
            name
            and name != POD_NETWORK
            and (not slash or dns_label_error(namespace) or dns_subdomain_error(attachment))
        ):
            message = f"found {name[:80]!r}; accepted: {POD_NETWORK}, or a NetworkAttachmentDefinition, NAMESPACE/NAME"
            found.add(f"{where}.name", message)
        elif name and names.setdefault(name, where) != where:
            found.duplicate(f"{where}.name", f"{name} is {names[name]} already")
        _host_name(item, text(item.get("network")), f"{where}.network", found)
        for index, cidr in enumerate(texts(item.get("cidrs"))):
            try:
                ip_network(cidr)
            except ValueError as error:
                message = f"{str(error)[:120]}; accepted: a network such as 10.20.0.0/16"
                found.add(f"{where}.cidrs[{index}]", message)


def _host_name(item: Obj, name: str, path: str, found: Findings) -> None:
    """Check a name that the host gives."""
    if path.rpartition(".")[2] in item and not _HOST_NAME.fullmatch(name):
        found.add(path, f"found {name[:80]!r}; accepted: 1 to 255 printable characters without /")


def still_there(name: str, machines: Sequence[Obj]) -> list[Problem]:
    """Return why an endpoint cannot be deleted: ``machines`` that may have a domain on its host."""
    if not machines:
        return []
    listed = ", ".join(f"{one['metadata']['namespace']}/{one['metadata']['name']}" for one in machines[:10])
    more = f" and {len(machines) - 10} more" if len(machines) > 10 else ""
    what = f"endpoint {name} has virtual machines on its host: {listed}{more}; delete them, or move them, first"
    return [Problem("metadata.name", what, "FieldValueForbidden")]
