"""``endpoint map``: which of the host's pools and networks stand for which of the cluster's."""

from __future__ import annotations

from collections.abc import Sequence

from polyvisor.api.resources import ENDPOINTS, SUBRESOURCES_GROUP, SUBRESOURCES_VERSIONS
from polyvisor.cli.client import MERGE, Client, Obj
from polyvisor.cli.context import Session
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.output import note, say

DOORS = f"/apis/{SUBRESOURCES_GROUP}/{SUBRESOURCES_VERSIONS[0]}/{ENDPOINTS.plural}"


def map_to(session: Session, name: str, storage: Sequence[str], networks: Sequence[str]) -> None:
    """Add to an endpoint's mappings; one that is there under the same name of the cluster is replaced."""
    if not storage and not networks:
        raise CliError("nothing to map", ExitCode.USAGE, "For example: --storage images=default --network pod=default")
    client = session.client
    spec = client.get(ENDPOINTS.path(name=name))["spec"]
    pools = [pair("--storage", text, "storageClass", "pool") for text in storage]
    joined = [pair("--network", text, "name", "network") for text in networks]
    change = {}
    if pools:
        change["storage"] = _merged(spec.get("storage") or [], pools, "storageClass")
    if joined:
        change["networks"] = _merged(spec.get("networks") or [], joined, "name")
    client.request("PATCH", ENDPOINTS.path(name=name), {"spec": change}, content_type=MERGE)
    say(f"endpoint {name} maps {', '.join([*storage, *networks])}")
    if pools:
        _warn(client, name, [one["pool"] for one in pools])


def pair(option: str, text: str, ours: str, theirs: str) -> Obj:
    """Return one item of a mapping, from an option's text ``OURS=THEIRS``."""
    name, equals, rest = text.partition("=")
    if not (name and equals and rest):
        raise CliError(
            f"{option} {text!r}: expected {'CLASS=POOL' if ours != 'name' else 'NAME=NETWORK'}", ExitCode.USAGE
        )
    return {ours: name, theirs: rest}


def _merged(there: Sequence[Obj], new: Sequence[Obj], key: str) -> list[Obj]:
    """Return both; what is said of a network of the host goes with it when another takes its place."""
    found = {one[key]: one for one in there}
    for one in new:
        before = found.get(one[key], {})
        another = "network" in one and before.get("network") != one["network"]
        found[one[key]] = one if another else {**before, **one}
    return list(found.values())


def _warn(client: Client, name: str, pools: Sequence[str]) -> None:
    """Say of pools that the host does not have them, if it can be asked."""
    from polyvisor.kube.errors import ApiError

    try:
        known = {str(one.get("name")) for one in client.get(f"{DOORS}/{name}/pools").get("items") or []}
    except ApiError as error:
        note(f"The host's pools could not be looked at: {error}")
        return
    for pool in pools:
        if pool not in known:
            there = f"it has {', '.join(sorted(known))}" if known else "it has none"
            note(f"The host has no pool {pool!r}: {there}. Machines cannot use it until there is one.")
