"""What cloud-init reads at a guest's first boot, as a disc or as files in its root: a NoCloud seed or a config drive.

The texts are secrets (passwords, keys): they go from the API object to a file of mode 0600 in a folder of mode 0700 and
appear in no argument list, no log, no error.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyvisor.agent.errors import AgentError
from polyvisor.agent.files.iso import write_iso
from polyvisor.agent.storage import rootfs
from polyvisor.api.reading import nested

MAX_BYTES = 16 * 1024 * 1024
SEEDS = ["var", "lib", "cloud", "seed"]
Secrets = Mapping[str, Mapping[str, bytes]]
"""Name of a Secret in the machine's namespace -> its data, decoded."""


@dataclass(frozen=True)
class Kind:
    """A way of handing data to cloud-init: what its files are called, on a disc or below cloud-init's own folder.

    ``disc`` is what KubeVirt calls the disc itself.
    """

    volume: str
    label: str
    folder: str
    user: str
    network: str
    meta: str
    disc: str


NO_CLOUD = Kind("cloudInitNoCloud", "cidata", "nocloud", "user-data", "network-config", "meta-data", "noCloud.iso")
CONFIG_DRIVE = Kind(
    "cloudInitConfigDrive",
    "config-2",
    "config_drive",
    "openstack/latest/user_data",
    "openstack/latest/network_data.json",
    "openstack/latest/meta_data.json",
    "configdrive.iso",
)
KINDS = (NO_CLOUD, CONFIG_DRIVE)


@dataclass(frozen=True)
class Identity:
    """What cloud-init is told of the machine beside the user's data."""

    instance_id: str
    hostname: str
    uuid: str = ""
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Seed:
    """The files of a seed, by path; its repr shows nothing of them."""

    kind: Kind
    files: Mapping[str, bytes]


def secret_names(volume: Mapping[str, Any]) -> list[str]:
    """Return the names of the Secrets that a volume needs for cloud-init."""
    sources = [volume.get(kind.volume) or {} for kind in KINDS]
    found = [(source.get(key) or {}).get("name") for source in sources for key in ("secretRef", "networkDataSecretRef")]
    return [str(name) for name in found if name]


def seed(kind: Kind, source: Mapping[str, Any], identity: Identity, secrets: Secrets) -> Seed:
    """Gather the seed of a machine."""
    files = {kind.meta: _meta(kind, identity)}
    user = _text(kind, source, "userData", "secretRef", ("userdata", "userData"), secrets)
    files[kind.user] = user if user is not None else b""
    network = _text(kind, source, "networkData", "networkDataSecretRef", ("networkdata", "networkData"), secrets)
    if network is None and (reference := nested(source, "secretRef").get("name")):
        network = _first(secrets.get(reference) or {}, ("networkdata", "networkData"))
    if network is not None:
        files[kind.network] = network
    if sum(map(len, files.values())) > MAX_BYTES:
        raise AgentError(f"the cloud-init data is larger than {MAX_BYTES} bytes", retry=False)
    return Seed(kind, files)


def _meta(kind: Kind, identity: Identity) -> bytes:
    keys = {f"key{number}": key for number, key in enumerate(identity.keys)}
    told: dict[str, Any]
    if kind is NO_CLOUD:
        told = {"instance-id": identity.instance_id, "local-hostname": identity.hostname, "public-keys": keys}
    else:
        told = {"instance_id": identity.instance_id, "hostname": identity.hostname, "uuid": identity.uuid}
        told["public_keys"] = keys
    return (json.dumps({key: value for key, value in told.items() if value}) + "\n").encode()


def _first(data: Mapping[str, bytes], keys: tuple[str, ...]) -> bytes | None:
    return next((data[key] for key in keys if key in data), None)


def _text(
    kind: Kind, source: Mapping[str, Any], field: str, reference: str, keys: tuple[str, ...], secrets: Secrets
) -> bytes | None:
    if source.get(field):
        return str(source[field]).encode()
    if encoded := source.get(f"{field}Base64"):
        try:
            return base64.b64decode("".join(str(encoded).split()), validate=True)
        except (binascii.Error, ValueError):
            raise AgentError(f"{kind.volume}.{field}Base64 is not valid base64", retry=False) from None
    if not (name := (source.get(reference) or {}).get("name")):
        return None
    if name not in secrets:
        raise AgentError(f"Secret {name} for cloud-init's {field} does not exist yet; waiting for it")
    found = _first(secrets[name], keys)
    if found is None and reference == "networkDataSecretRef":
        raise AgentError(f"Secret {name} for cloud-init has no key {keys[0]}")
    if found is None and _first(secrets[name], ("networkdata", "networkData")) is None:
        raise AgentError(f"Secret {name} for cloud-init has no key {keys[0]}")
    return found


def write_disc(seed: Seed, folder: Path, name: str) -> Path:
    """Write the seed as a disc with the label by which cloud-init knows its kind."""
    return write_iso(seed.files, folder, name, seed.kind.label, "making the cloud-init image")


def write_into(seed: Seed, root: int) -> None:
    """Write the seed where cloud-init looks in a root filesystem."""
    folders: dict[str, dict[str, bytes]] = {}
    for path, data in seed.files.items():
        folder, _, name = path.rpartition("/")
        folders.setdefault(folder, {})[name] = data
    for folder, files in folders.items():
        below = [part for part in folder.split("/") if part]
        rootfs.write(root, [*SEEDS, seed.kind.folder, *below], files)
