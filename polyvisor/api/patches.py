"""JSON patches as snapshots and clones hold them: a list of strings, each of which is one operation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import jsonpatch

if TYPE_CHECKING:
    from polyvisor.api.base import Obj


def patched(obj: Obj, patches: list[str]) -> Obj:
    """Return an object after JSON patches, each given as a string. Raises ValueError with what is wrong."""
    changed: Obj = obj
    for text in patches:
        try:
            changed = jsonpatch.apply_patch(changed, [json.loads(text)])
        except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, TypeError, KeyError) as error:
            raise ValueError(f"the patch {text} does not fit: {error}") from error
    return changed
