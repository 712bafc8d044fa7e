"""Rules for paths and references in manifests: none may point outside the root that it is resolved below.

This is the first of two locks. The agent opens what is named here without following anything out of its root; the
rules here tell the user early, and in words.
"""

from __future__ import annotations

import re

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]*")
MAX_PATH = 1024


def absolute_path_error(path: str) -> str:
    """Say why ``path`` is no plain absolute path, or nothing."""
    if not path:
        return "required; an absolute path"
    if len(path) > MAX_PATH:
        return f"is {len(path)} characters long; at most {MAX_PATH} are accepted"
    if "\0" in path:
        return "contains the character U+0000"
    if not path.startswith("/"):
        return f"{path!r} is no absolute path; it must start with '/'"
    if path.endswith("/"):
        return f"{path!r} is a folder; the path of a file is wanted"
    if any(part in (".", "..") for part in path.split("/")):
        return f"{path!r} contains '.' or '..'; write the path without them"
    return ""


def relative_path_error(path: str) -> str:
    """Say why ``path`` is no plain path below a folder, or nothing."""
    if not path:
        return "required; a path below the volume"
    if len(path) > MAX_PATH:
        return f"is {len(path)} characters long; at most {MAX_PATH} are accepted"
    if any(ord(letter) < 32 for letter in path):
        return "contains a control character"
    if path.startswith("/"):
        return f"{path!r} is an absolute path; write it without the '/' at its start"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return f"{path!r} contains '.', '..' or an empty part; write the path without them"
    return ""


def image_error(image: str) -> str:
    """Say why ``image`` is no reference to a container image, or nothing."""
    if not image:
        return "required; a reference such as localhost/demo:1"
    if len(image) > MAX_PATH:
        return f"is {len(image)} characters long; at most {MAX_PATH} are accepted"
    if not _IMAGE.fullmatch(image):
        return (
            f"{image!r} is no image reference: letters, digits and '._/:@+-', starting with a letter or digit, "
            "such as localhost/demo:1 or oci-archive:demo.tar"
        )
    _, _, tail = image.partition(":")
    if any(part == ".." for part in re.split(r"[/:@]", image)) or (tail.startswith("/") and not tail.startswith("//")):
        return f"{image!r} points outside the image store; write a reference relative to it, without '..'"
    return ""
