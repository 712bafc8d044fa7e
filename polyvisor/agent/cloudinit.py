"""The NoCloud seed: what cloud-init in a guest reads at its first boot, as an ISO image or as files in its root.

The texts are secrets (passwords, keys): they go from the API object to a file of mode 0600 in a folder of mode 0700 and
appear in no argument list, no log, no error.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyvisor.agent import safepath, tools
from polyvisor.agent.errors import AgentError, translated

MAX_BYTES = 16 * 1024 * 1024
SEED_FOLDER = ["var", "lib", "cloud", "seed", "nocloud"]
Secrets = Mapping[str, Mapping[str, bytes]]
"""Name of a Secret in the machine's namespace -> its data, decoded."""


@dataclass(frozen=True, repr=False)
class Seed:
    """The files of a seed; its repr shows nothing of them."""

    files: Mapping[str, bytes]


def secret_names(source: Mapping[str, Any]) -> list[str]:
    """Return the names of the Secrets that a cloudInitNoCloud source needs."""
    found = [(source.get(key) or {}).get("name") for key in ("secretRef", "networkDataSecretRef")]
    return [str(name) for name in found if name]


def seed(source: Mapping[str, Any], *, instance_id: str, hostname: str, secrets: Secrets) -> Seed:
    """Gather the seed of a machine."""
    meta = json.dumps({"instance-id": instance_id, "local-hostname": hostname}) + "\n"
    files = {"meta-data": meta.encode()}
    user = _text(source, "userData", "secretRef", ("userdata", "userData"), secrets)
    files["user-data"] = user if user is not None else b""
    network = _text(source, "networkData", "networkDataSecretRef", ("networkdata", "networkData"), secrets)
    if network is None and (reference := (source.get("secretRef") or {}).get("name")):
        network = _first(secrets.get(reference) or {}, ("networkdata", "networkData"))
    if network is not None:
        files["network-config"] = network
    if sum(map(len, files.values())) > MAX_BYTES:
        raise AgentError(f"the cloud-init data is larger than {MAX_BYTES} bytes", retry=False)
    return Seed(files)


def _first(data: Mapping[str, bytes], keys: tuple[str, ...]) -> bytes | None:
    return next((data[key] for key in keys if key in data), None)


def _text(
    source: Mapping[str, Any], field: str, reference: str, keys: tuple[str, ...], secrets: Secrets
) -> bytes | None:
    if source.get(field):
        return str(source[field]).encode()
    if encoded := source.get(f"{field}Base64"):
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise AgentError(f"cloudInitNoCloud.{field}Base64 is not valid base64", retry=False) from None
    if not (name := (source.get(reference) or {}).get("name")):
        return None
    if name not in secrets:
        raise AgentError(f"Secret {name} for cloud-init's {field} does not exist")
    found = _first(secrets[name], keys)
    if found is None and reference == "networkDataSecretRef":
        raise AgentError(f"Secret {name} for cloud-init has no key {keys[0]}")
    if found is None and _first(secrets[name], ("networkdata", "networkData")) is None:
        raise AgentError(f"Secret {name} for cloud-init has no key {keys[0]}")
    return found


def write_iso(seed: Seed, folder: Path, name: str) -> Path:
    """Write the seed as an ISO 9660 image with the label ``cidata``."""
    place = folder / f"{name}.iso"
    source = folder / f".{name}.seed"
    doing = "making the cloud-init image"
    with translated(folder, doing):
        source.mkdir(mode=0o700)
    try:
        with translated(folder, doing):
            for file, data in seed.files.items():
                safepath.write_atomic(source / file, data)
        program = "xorrisofs" if shutil.which("xorrisofs") else "genisoimage"
        command: list[str | Path] = [
            program,
            "-quiet",
            "-volid",
            "cidata",
            "-joliet",
            "-rock",
            "-output",
            place,
            source,
        ]
        tools.run(command, doing, folder)
        place.chmod(0o600)
    finally:
        safepath.remove_path(source)
    return place


def write_into(seed: Seed, root: Path) -> None:
    """Write the seed where cloud-init looks in a root filesystem."""
    write_below(root, SEED_FOLDER, seed.files, "writing the cloud-init seed")


def write_hostname(name: str, root: Path) -> None:
    """Give a root filesystem its machine's host name, which an init sets while it starts."""
    write_below(root, ["etc"], {"hostname": f"{name}\n".encode()}, "writing the host name", 0o644)


def write_below(root: Path, folder: list[str], files: Mapping[str, bytes], doing: str, mode: int = 0o600) -> None:
    """Write files into a folder of a root filesystem, without leaving it through a link of the image."""
    with translated(root, doing), safepath.opened_root(root) as top:
        found = safepath.real_folder(top, folder, missing_ok=True)
        with safepath.walk(top, found, create=True) as at:
            for file, data in files.items():
                safepath.remove(at, file)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                with os.fdopen(os.open(file, flags, mode, dir_fd=at), "wb") as handle:
                    handle.write(data)
