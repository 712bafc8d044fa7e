"""Brings the discs in a running instance's CD-ROM drives in line with its machine's template. Pure.

Only what is hotpluggable on both sides is changed: a drive's disc that is not stays until a restart.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from polyvisor.api.volumes import drives, hotpluggable

if TYPE_CHECKING:
    from polyvisor.api import Obj


def step(vm: Obj, vmi: Obj) -> Obj | None:
    """Return the instance with the template's discs, None if it has them."""
    template = vm["spec"]["template"].get("spec") or {}
    have = {volume["name"]: volume for volume in vmi["spec"].get("volumes") or []}
    wanted = {volume["name"]: volume for volume in template.get("volumes") or []}
    found = dict(have)
    for name in sorted(drives(template) & drives(vmi["spec"])):
        before, after = have.get(name), wanted.get(name)
        if any(one is not None and not hotpluggable(one) for one in (before, after)):
            continue
        found.pop(name, None)
        if after is not None:
            found[name] = copy.deepcopy(after)
    if found == have:
        return None
    return {**vmi, "spec": {**vmi["spec"], "volumes": list(found.values())}}
