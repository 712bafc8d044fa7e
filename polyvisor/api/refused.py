"""KubeVirt's kinds of which no objects can be made here: why, and what to do instead."""

from __future__ import annotations

from collections.abc import Mapping

from polyvisor.api.resources import GROUP, REFUSED

GIVEN_UP: Mapping[str, str] = {
    "VirtualMachineInstancePreset": "KubeVirt itself has given presets up; write the fields into the machine, or into "
    "an instance type and a preference that machines share"
}
"""Kinds of KubeVirt's that no server of Polyvisor has, not even to list them -> why, and what to do instead."""


def why_not(api_version: str, kind: str) -> str:
    """Return why objects of one of KubeVirt's kinds cannot be made, and what to do instead; empty for other kinds."""
    group = api_version.partition("/")[0]
    if group == GROUP and kind in GIVEN_UP:
        return f"{kind} is not implemented by Polyvisor: {GIVEN_UP[kind]}"
    found = next((one for one in REFUSED if (one.group, one.kind) == (group, kind)), None)
    return f"{kind} is not implemented by Polyvisor yet; {found.refused}" if found else ""
