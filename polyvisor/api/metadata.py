"""The rules of Kubernetes for ``metadata``: names, labels, annotations, finalizers.

Names end up in file names, domain names and label values, so they are held to their alphabet here, before anything
else sees them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from polyvisor.api.problems import Problem

MAX_SUBDOMAIN = 253
MAX_ANNOTATIONS = 256 * 1024

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DNS_LABEL = re.compile(_LABEL)
_DNS_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")


def dns_label_error(value: str, limit: int = 63) -> str:
    """Say why ``value`` is no DNS label, or nothing."""
    if len(value) > limit:
        return f"is {len(value)} characters long; at most {limit} are accepted"
    if not _DNS_LABEL.fullmatch(value):
        return (
            f"{value!r} is no DNS label: lower-case letters, digits and '-', starting and ending with a letter or digit"
        )
    return ""


def dns_subdomain_error(value: str, limit: int = MAX_SUBDOMAIN) -> str:
    """Say why ``value`` is no name of an object, or nothing."""
    if len(value) > limit:
        return f"is {len(value)} characters long; at most {limit} are accepted"
    if not _DNS_SUBDOMAIN.fullmatch(value):
        return (
            f"{value!r} is not a valid name: lower-case letters, digits, '-' and '.', "
            "each part starting and ending with a letter or digit"
        )
    return ""


def label_key_error(key: str) -> str:
    """Say why ``key`` cannot be the key of a label, an annotation or the name of a finalizer, or nothing."""
    prefix, slash, name = key.rpartition("/")
    if slash and (error := dns_subdomain_error(prefix)):
        return f"prefix {error}"
    if len(name) > 63 or not _QUALIFIED.fullmatch(name):
        return f"{key[:80]!r} is not a valid key: [prefix/]name, name: letters, digits, '-', '_', '.', at most 63"
    return ""


def label_value_error(value: str) -> str:
    """Say why ``value`` cannot be the value of a label, or nothing."""
    if len(value) > 63 or (value and not _QUALIFIED.fullmatch(value)):
        return f"{value[:80]!r} is not a valid value: letters, digits, '-', '_' and '.', at most 63, or empty"
    return ""


def check_metadata(metadata: Any, path: str = "metadata", limit: int = MAX_SUBDOMAIN) -> list[Problem]:
    """Return what is wrong with the metadata of an object; types are the strict check's business."""
    if not isinstance(metadata, dict):
        return []
    problems = list(_names(metadata, path, limit))
    problems += _map(metadata.get("labels"), f"{path}.labels", label_value_error)
    problems += _map(metadata.get("annotations"), f"{path}.annotations", None)
    finalizers = metadata.get("finalizers")
    for index, finalizer in enumerate(finalizers if isinstance(finalizers, list) else ()):
        if isinstance(finalizer, str) and (error := label_key_error(finalizer)):
            problems.append(Problem(f"{path}.finalizers[{index}]", error))
    return problems


def check_name(metadata: Any, path: str = "metadata") -> list[Problem]:
    """Return a problem if an object has neither a name nor a prefix to make one from."""
    if isinstance(metadata, dict) and (metadata.get("name") or metadata.get("generateName")):
        return []
    return [Problem(f"{path}.name", "required; a name or generateName", "FieldValueRequired")]


def _names(metadata: dict[str, Any], path: str, limit: int) -> Iterator[Problem]:
    name, prefix, namespace = (metadata.get(key) for key in ("name", "generateName", "namespace"))
    if isinstance(name, str) and name and (error := dns_subdomain_error(name, limit)):
        yield Problem(f"{path}.name", error)
    if isinstance(prefix, str) and prefix and (error := dns_subdomain_error(prefix + "x", limit)):
        yield Problem(f"{path}.generateName", error)
    if isinstance(namespace, str) and namespace and (error := dns_label_error(namespace)):
        yield Problem(f"{path}.namespace", error)


def _map(value: Any, path: str, value_error: Callable[[str], str] | None) -> Iterator[Problem]:
    if not isinstance(value, dict):
        return
    size = 0
    for key, item in value.items():
        if not isinstance(key, str) or not isinstance(item, str):
            continue
        size += len(key) + len(item)
        if error := label_key_error(key if value_error else key.lower()):  # an annotation's prefix may be upper-case
            yield Problem(path, error)
        if value_error and (error := value_error(item)):
            yield Problem(f"{path}[{key[:80]}]", error)
    if size > MAX_ANNOTATIONS:
        yield Problem(path, f"hold {size} characters; at most {MAX_ANNOTATIONS} are accepted")
