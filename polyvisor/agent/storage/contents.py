"""Volumes that are made of texts in the API: ConfigMaps, Secrets, a Pod's metadata and service account, answer files.

A machine with disks gets them as a disc with a label, one with a root filesystem as a folder. They are read once, when
the machine is made ready: a guest does not see a later change. An object that is missing is waited for, unless the
volume says that it is optional.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from polyvisor.agent.errors import AgentError
from polyvisor.api import Obj
from polyvisor.api.reading import nested

LABEL = "cfgdata"
SYSPREP_LABEL = "unattendCfg"
MAX_BYTES = 16 * 1024 * 1024
Data = Mapping[str, Mapping[str, bytes]]
"""Name of an object in the machine's namespace -> its data, decoded."""


@dataclass(frozen=True, repr=False)
class Contents:
    """Files by path, and the label of the disc that holds them; its repr shows nothing of them."""

    files: Mapping[str, bytes]
    label: str


@dataclass(frozen=True, repr=False)
class Given:
    """What volumes can be made of."""

    secrets: Data
    configmaps: Data
    pod: Obj
    account: Mapping[str, bytes] = field(default_factory=dict)
    """The files that a kubelet made of the Pod's service account."""


def config_map(name: str, source: Obj, given: Given) -> Contents:
    """Return the files of a configMap volume."""
    files = _data(name, "ConfigMap", source.get("name"), given.configmaps, bool(source.get("optional")))
    return _sized(name, files, source.get("volumeLabel") or LABEL)


def secret(name: str, source: Obj, given: Given) -> Contents:
    """Return the files of a secret volume."""
    files = _data(name, "Secret", source.get("secretName"), given.secrets, bool(source.get("optional")))
    return _sized(name, files, source.get("volumeLabel") or LABEL)


def sysprep(name: str, source: Obj, given: Given) -> Contents:
    """Return the answer files that Windows looks for."""
    if reference := source.get("secret"):
        files = _data(name, "Secret", reference.get("name"), given.secrets, False)
    else:
        reference = source.get("configMap") or {}
        files = _data(name, "ConfigMap", reference.get("name"), given.configmaps, False)
    lowered = {key.lower() for key in files}
    if not lowered & {"autounattend.xml", "unattend.xml"}:
        raise AgentError(f"volume {name}: {reference.get('name')} has no key autounattend.xml or unattend.xml")
    return _sized(name, files, SYSPREP_LABEL)


def downward_api(name: str, source: Obj, given: Given) -> Contents:
    """Return the files that tell of the launcher Pod, as a kubelet writes them."""
    files = {
        str(item["path"]): field_of(given.pod, str(nested(item, "fieldRef").get("fieldPath") or "")).encode()
        for item in source.get("fields") or []
    }
    return _sized(name, files, source.get("volumeLabel") or LABEL)


def service_account(name: str, source: Obj, given: Given) -> Contents:
    """Return the token of a service account, its namespace and the cluster's certificate."""
    if not given.account:
        message = f"volume {name}: service account {source.get('serviceAccountName')}: a kubelet hands out their tokens"
        raise AgentError(f"{message}, and this node has none; run the machine in a launcher Pod", retry=False)
    return _sized(name, given.account, LABEL)


KINDS: Mapping[str, Callable[[str, Obj, Given], Contents]] = {
    "configMap": config_map,
    "secret": secret,
    "serviceAccount": service_account,
    "sysprep": sysprep,
    "downwardAPI": downward_api,
}
"""Kind of volume -> what makes its files."""


def names_of(volume: Obj) -> tuple[set[str], set[str]]:
    """Return the names of the Secrets and of the ConfigMaps that a volume of these kinds is made of."""
    secrets = {
        nested(volume, "secret").get("secretName"),
        nested(volume, "sysprep", "secret").get("name"),
    }
    configmaps = {
        nested(volume, "configMap").get("name"),
        nested(volume, "sysprep", "configMap").get("name"),
    }
    return {str(name) for name in secrets if name}, {str(name) for name in configmaps if name}


def field_of(pod: Obj, path: str) -> str:
    """Return a field of a Pod's metadata: ``metadata.name``, ``metadata.labels``, ``metadata.labels['KEY']`` ..."""
    metadata: Obj = pod.get("metadata") or {}
    field = path.removeprefix("metadata.")
    if field in ("name", "namespace", "uid"):
        return str(metadata.get(field) or "")
    for group in ("labels", "annotations"):
        texts: Mapping[str, Any] = metadata.get(group) or {}
        if field == group:
            return "\n".join(f"{key}={json.dumps(str(texts[key]), ensure_ascii=False)}" for key in sorted(texts))
        if field.startswith(f"{group}['") and field.endswith("']"):
            return str(texts.get(field[len(group) + 2 : -2]) or "")
    raise AgentError(f"the downward API has no field {path!r}", retry=False)


def _data(name: str, kind: str, wanted: Any, known: Data, optional: bool) -> Mapping[str, bytes]:
    if wanted in known:
        return known[wanted]
    if optional:
        return {}
    raise AgentError(f"volume {name}: {kind} {wanted} does not exist yet; waiting for it")


def _sized(name: str, files: Mapping[str, bytes], label: str) -> Contents:
    if sum(map(len, files.values())) > MAX_BYTES:
        raise AgentError(f"volume {name}: its files are larger than {MAX_BYTES} bytes together", retry=False)
    return Contents(files, label)


def data_of(obj: Obj, plain: str, coded: str) -> dict[str, bytes]:
    """Return what a Secret or a ConfigMap holds: the field with plain texts, and the one that is in base64."""
    found = {key: base64.b64decode(value) for key, value in (obj.get(coded) or {}).items()}
    return found | {key: text.encode() for key, text in (obj.get(plain) or {}).items()}
