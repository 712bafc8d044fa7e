"""``domains``: what runs on endpoints' hosts. A list that is empty says why it is."""

from __future__ import annotations

from urllib.parse import quote

from polyvisor.api.quantity import format_quantity, whole
from polyvisor.api.reading import read_status
from polyvisor.api.resources import ENDPOINTS, SUBRESOURCES_GROUP, SUBRESOURCES_VERSIONS
from polyvisor.cli.client import Client, Obj
from polyvisor.cli.context import Session
from polyvisor.cli.endpoints import condition, not_ready
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.output import Output, columns, note, print_structured, say

DOMAINS = f"/apis/{SUBRESOURCES_GROUP}/{SUBRESOURCES_VERSIONS[0]}/{ENDPOINTS.plural}/{{}}/domains"
GIB = 1 << 30


def show(session: Session, name: str, output: Output) -> None:
    """Print the domains of one endpoint, or of all."""
    client = session.client
    endpoints = [client.get(ENDPOINTS.path(name=name))] if name else client.get(ENDPOINTS.path()).get("items") or []
    if not endpoints:
        raise CliError(
            "there are no endpoints", ExitCode.NOT_FOUND, "`polyvisor endpoint add URI` adds a host, such as this one."
        )
    lists: list[tuple[Obj, Obj]] = []
    failures = []
    for endpoint in endpoints:
        try:
            lists.append((endpoint, _domains(client, endpoint)))
        except CliError as error:
            failures.append(error)
    if name and failures:
        raise failures[0]
    if output in (Output.JSON, Output.YAML):
        print_structured(_joined(lists), output)
    elif output == Output.NAME:
        for endpoint, found in lists:
            for one in found["items"]:
                say(f"{endpoint['metadata']['name']}/{one['name']}")
    else:
        _table(lists, several=not name, wide=output == Output.WIDE)
    for failure in failures:
        note(f"polyvisor: {failure.message}")
        if failure.hint:
            note(failure.hint)


def dump(session: Session, word: str) -> None:
    """Print the XML of ``ENDPOINT/DOMAIN``: as it is defined, or as it runs where it is not."""
    endpoint, slash, domain = word.partition("/")
    if not (endpoint and slash and domain):
        raise CliError(f"{word!r} is not ENDPOINT/DOMAIN", ExitCode.USAGE, "`polyvisor domains -o name` lists them.")
    found = session.client.get(f"{DOMAINS.format(endpoint)}/{quote(domain, safe='')}")
    say(found["xml"].rstrip("\n"))


def _domains(client: Client, endpoint: Obj) -> Obj:
    name, seen = endpoint["metadata"]["name"], read_status(endpoint).get("domains")
    if condition(endpoint).get("status") != "True" and not seen:
        raise not_ready(endpoint)
    return client.get(DOMAINS.format(name), {"adoption": True})


def _joined(lists: list[tuple[Obj, Obj]]) -> Obj:
    items = [{"endpoint": endpoint["metadata"]["name"], **one} for endpoint, found in lists for one in found["items"]]
    stale = {endpoint["metadata"]["name"]: found["stale"] for endpoint, found in lists if found.get("stale")}
    answer: Obj = {"apiVersion": ENDPOINTS.api_version, "kind": "EndpointDomainList", "items": items}
    return {**answer, "stale": stale} if stale else answer


def _table(lists: list[tuple[Obj, Obj]], *, several: bool, wide: bool) -> None:
    header = ["NAME", "STATE", "DRIVER", "VCPUS", "MEMORY", "MANAGEMENT", "ADOPTABLE"]
    rows = [[*(["ENDPOINT"] if several else []), *header, *(["UUID", "ID", "PERSISTENT"] if wide else [])]]
    for endpoint, found in lists:
        for one in found["items"]:
            row = [one["name"], one["state"], one["driver"], str(one["vcpus"]), _memory(one["memory"])]
            row += [one["management"], _adoption(one, wide=wide)]
            if several:
                row.insert(0, endpoint["metadata"]["name"])
            if wide:
                row += [one["uuid"], str(one["id"]) if one["id"] >= 0 else "-", str(one["persistent"]).lower()]
            rows.append(row)
    if len(rows) > 1:
        for line in columns(rows):
            say(line)
    for endpoint, found in lists:
        name, uri = endpoint["metadata"]["name"], endpoint["spec"]["uri"]
        if found.get("stale"):
            note(f"The list of endpoint {name} is what was last seen: {found['stale']}")
        if not found["items"]:
            note(f"No domains on endpoint {name}: libvirt at {uri} has none, neither running nor shut off.")
            note("Domains of other drivers and of other users' sessions have connections, and endpoints, of their own.")


def _adoption(domain: Obj, *, wide: bool) -> str:
    if domain["management"] == "Managed":
        return f"is VM {domain['machine']}" if domain.get("machine") else "-"
    adoption = domain.get("adoption")
    if adoption is None:
        return "not looked at yet"
    if adoption["possible"]:
        return "yes"
    reasons = adoption["reasons"]
    shown = reasons if wide else reasons[:1]
    more = f" (and {len(reasons) - len(shown)} more: -o wide)" if len(reasons) > len(shown) else ""
    return f"no: {'; '.join(shown)}{more}"


def _memory(amount: str) -> str:
    number = whole(amount)
    return f"{number / GIB:.1f}Gi" if number >= GIB and number % GIB else format_quantity(number)
