"""``endpoint map``: which of the host's pools and networks stand for which of the cluster's."""

from __future__ import annotations

from collections.abc import Sequence

from polyvisor.api.cluster_resources import STORAGE_CLASSES
from polyvisor.api.node_names import ENDPOINT_CSI_DRIVER, ENDPOINT_LABEL
from polyvisor.api.resources import ENDPOINTS, SUBRESOURCES_GROUP, SUBRESOURCES_VERSIONS
from polyvisor.cli.client import MERGE, Client, Obj
from polyvisor.cli.context import Session
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.output import note, say
from polyvisor.kube.errors import ApiError

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
    for one in pools:
        make_class(client, one["storageClass"])
    if pools:
        _warn(client, name, [one["pool"] for one in pools])


def make_class(client: Client, name: str, endpoint: str = "") -> None:
    """Make a storage class whose volumes are made on endpoints' hosts, unless there is one of that name.

    In a cluster it is for one ``endpoint``, and a volume is made when the scheduler has chosen its Node.
    """
    made: Obj = {
        "apiVersion": STORAGE_CLASSES.api_version,
        "kind": STORAGE_CLASSES.kind,
        "metadata": {"name": name},
        "provisioner": ENDPOINT_CSI_DRIVER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
    }
    if endpoint:
        here = [{"matchLabelExpressions": [{"key": ENDPOINT_LABEL, "values": [endpoint]}]}]
        made |= {"volumeBindingMode": "WaitForFirstConsumer", "allowedTopologies": here}
    try:
        client.request("POST", STORAGE_CLASSES.path(), made)
    except ApiError as error:
        if not error.already_exists:
            raise


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
    try:
        known = {str(one.get("name")) for one in client.get(f"{DOORS}/{name}/pools").get("items") or []}
    except ApiError as error:
        note(f"The host's pools could not be looked at: {error}")
        return
    for pool in pools:
        if pool not in known:
            there = f"it has {', '.join(sorted(known))}" if known else "it has none"
            note(f"The host has no pool {pool!r}: {there}. Machines cannot use it until there is one.")
