from __future__ import annotations

import json
from typing import Any

import pytest

from polyvisor.api.clone_patches import patches_of
from polyvisor.api.clones import left_out
from polyvisor.api.patches import patched

Obj = dict[str, Any]
KEYS = ["app", "app/tier", "team"]


@pytest.mark.parametrize(
    ("filters", "gone"),
    [
        (None, []),
        ([], KEYS),
        (["*"], []),
        (["app"], ["app/tier", "team"]),
        (["app*"], ["team"]),
        (["*", "!app/*"], ["app/tier"]),
        (["!app", "*"], ["app"]),
        (["!team"], KEYS),
    ],
)
def test_what_filters_leave_out(filters: list[str] | None, gone: list[str]) -> None:
    assert left_out(KEYS, filters) == gone


def source() -> Obj:
    cards = [{"name": "a", "macAddress": "02:00:00:00:00:01"}, {"name": "b"}]
    domain = {"firmware": {"uuid": "1", "serial": "2"}, "devices": {"interfaces": cards}}
    template = {"metadata": {"labels": {"x/y~z": "1", "keep": "2"}}, "spec": {"domain": domain}}
    metadata = {"labels": {"app": "1"}, "annotations": {"restore.kubevirt.io/lastRestoreUID": "r", "note": "n"}}
    return {"metadata": metadata, "spec": {"template": template}}


def cloned(**spec: Any) -> Obj:
    return patched(source(), patches_of(spec, source()))


def test_a_copy_has_an_identity_of_its_own() -> None:
    domain = cloned()["spec"]["template"]["spec"]["domain"]
    assert domain == {"firmware": {}, "devices": {"interfaces": [{"name": "a"}, {"name": "b"}]}}


def test_a_copy_has_what_is_named_for_it() -> None:
    extra = json.dumps({"op": "add", "path": "/spec/runStrategy", "value": "Always"})
    found = cloned(newMacAddresses={"b": "02:00:00:00:00:09"}, newSMBiosSerial="s", patches=[extra])
    domain = found["spec"]["template"]["spec"]["domain"]
    assert domain["devices"]["interfaces"] == [{"name": "a"}, {"name": "b", "macAddress": "02:00:00:00:00:09"}]
    assert domain["firmware"] == {"serial": "s"}
    assert found["spec"]["runStrategy"] == "Always"


def test_filters_apply_to_the_machine_and_to_its_template() -> None:
    found = cloned(labelFilters=["no"], annotationFilters=[], template={"labelFilters": ["*", "!x/*"]})
    assert found["metadata"] == {"labels": {}, "annotations": {"restore.kubevirt.io/lastRestoreUID": "r"}}
    assert found["spec"]["template"]["metadata"]["labels"] == {"keep": "2"}


def test_a_patch_that_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="/spec/nothing/here"):
        patched(source(), [json.dumps({"op": "remove", "path": "/spec/nothing/here"})])
