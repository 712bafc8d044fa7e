"""Networks that a machine's annotations ask Multus for: these go to its launcher Pod as they are.

So they are held to what holds for ``spec.networks``: a network of another namespace has to be readable for the writer.
Multus reads a list of names, ``NAMESPACE/NAME@INTERFACE``, or JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from polyvisor.admission.values import mapping, text
from polyvisor.api import Obj
from polyvisor.api.names import NETWORKS_ANNOTATION

DEFAULT_NETWORK_ANNOTATION = "v1.multus-cni.io/default-network"
"""Takes the place of the Pod's own network."""
MAX_NETWORKS = 64
MAX_NAME = 253


def asked(obj: Obj, namespace: str) -> Iterator[tuple[str, str, str]]:
    """Give the networks that annotations name: path, namespace, name; empty names for what cannot be read."""
    place = ("spec", "template", "metadata") if "template" in mapping(obj, "spec") else ("metadata",)
    annotations = mapping(obj, *place, "annotations")
    for key in (NETWORKS_ANNOTATION, DEFAULT_NETWORK_ANNOTATION):
        for number, (space, name) in enumerate(_read(text(annotations.get(key)), namespace)):
            fits = number < MAX_NETWORKS and len(space) <= MAX_NAME and len(name) <= MAX_NAME
            yield f"{'.'.join(place)}.annotations[{key}]", *((space, name) if fits else ("", ""))
            if not fits:
                break


def _read(value: str, namespace: str) -> Iterator[tuple[str, str]]:
    value = value.strip()
    if value[:1] in ("[", "{", '"'):
        yield from _of_json(value, namespace)
        return
    for word in value.split(","):
        space, slash, name = word.strip().rpartition("/")
        if word.strip():
            yield (space if slash else namespace), name.partition("@")[0]


def _of_json(value: str, namespace: str) -> Iterator[tuple[str, str]]:
    try:
        found: Any = json.loads(value)
    except (ValueError, RecursionError):
        found = None
    for one in found if isinstance(found, list) else [found]:
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            yield "", ""
            continue
        space = one.get("namespace") or namespace
        yield (space if isinstance(space, str) else ""), one["name"]
