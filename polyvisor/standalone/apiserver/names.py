"""The rules for names, labels and annotations (RFC 1123 and Kubernetes' own), each as text -> what is wrong or None."""

from __future__ import annotations

import re

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")


def label_error(name: str) -> str | None:
    """Check an RFC 1123 label, the form of a namespace's name."""
    if _LABEL.fullmatch(name):
        return None
    return (
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', must start and end "
        "with an alphanumeric character and have at most 63 characters"
    )


def subdomain_error(name: str) -> str | None:
    """Check an RFC 1123 subdomain, the form of most names."""
    if len(name) <= 253 and _SUBDOMAIN.fullmatch(name):
        return None
    return (
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', must start "
        "and end with an alphanumeric character and have at most 253 characters"
    )


def label_key_error(key: str) -> str | None:
    """Check the key of a label or annotation, with or without a prefix."""
    prefix, slash, name = key.rpartition("/")
    if slash and (not prefix or subdomain_error(prefix)):
        return f"{key!r}: the prefix must be a DNS subdomain"
    if not name or len(name) > 63 or not _QUALIFIED.fullmatch(name):
        return (
            f"{key!r}: name part must consist of alphanumeric characters, '-', '_' or '.', must start and end with "
            "an alphanumeric character and have at most 63 characters"
        )
    return None


def label_value_error(value: str) -> str | None:
    """Check the value of a label."""
    if value == "" or (len(value) <= 63 and _QUALIFIED.fullmatch(value)):
        return None
    return (
        f"{value!r}: a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
        "must start and end with an alphanumeric character and have at most 63 characters"
    )
