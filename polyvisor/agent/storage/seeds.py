"""The cloud-init seed of one machine: its volume's texts, who the machine is, and the keys that it is to accept."""

from __future__ import annotations

from polyvisor.agent.guests import access
from polyvisor.agent.storage import cloudinit
from polyvisor.api import Obj
from polyvisor.api.host_names import host_name
from polyvisor.api.reading import nested


def seed_of(vmi: Obj, kind: cloudinit.Kind, source: Obj, secrets: cloudinit.Secrets) -> cloudinit.Seed:
    """Gather the seed of a machine's volume. Raises :class:`AgentError` where a Secret is missing."""
    metadata, spec = vmi["metadata"], vmi["spec"]
    uuid = nested(spec, "domain", "firmware").get("uuid") or ""
    way = kind.volume.removeprefix("cloudInit")
    keys = tuple(access.seed_keys(spec, way[:1].lower() + way[1:], secrets))
    identity = cloudinit.Identity(f"{metadata['name']}.{metadata['namespace']}", host_name(vmi), uuid, keys)
    return cloudinit.seed(kind, source, identity, secrets)
