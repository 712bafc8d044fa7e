"""The models against the tables they are made from, and the generated files against their generators."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import polyvisor.api
from polyvisor.api import Disk, HypervisorConfiguration, VirtualMachineInstance, to_obj
from polyvisor.api.base import Model
from polyvisor.api.implemented import ALL, IMPLEMENTED
from polyvisor.api.resources import CDI_GROUP, RESOURCES
from polyvisor.api.schema import model_of
from polyvisor.api.shapes import Shape, members

ROOT = Path(__file__).parents[2]
TABLES = ("kubevirt-types.tsv", "polyvisor-types.tsv", "kubernetes-types.tsv")
RENAMED = {
    "core.ResourceRequirements": "ContainerResources",
    "core.PersistentVolumeClaimVolumeSource": "ClaimReference",
    "v1beta1.VirtualMachine": "SnapshotMachine",
    "v1beta1.PersistentVolumeClaim": "SnapshotClaim",
    "v1beta1.VolumeSnapshotStatus": "SnapshotVolumeStatus",
    "v1beta1.Condition": "SnapshotCondition",
    "v1beta1.Error": "SnapshotError",
}
OF_CDI = ("DataVolume", "StorageSpec", "PlatformOptions")
"""How the names of the data importer's types begin; all others of that version are KubeVirt's."""


def rows() -> list[dict[str, str]]:
    found = []
    for table in TABLES:
        with (ROOT / "tools" / "data" / table).open(newline="") as file:
            found += list(csv.DictReader(file, delimiter="\t"))
    return found


def model(key: str) -> type[Model]:
    group, _, name = key.rpartition(".")
    prefixed = group == "v1beta1" and name.startswith(OF_CDI)
    found: type[Model] = getattr(polyvisor.api, RENAMED.get(key) or (f"Cdi{name}" if prefixed else name))
    return found


def test_every_field_of_the_tables_is_in_the_models() -> None:
    missing = [
        f"{row['type']}.{row['field']}"
        for row in rows()
        if row["field"] and row["field"] not in members(model(row["type"]))
    ]
    assert not missing
    assert len(rows()) > 1200


def test_required_and_enumerated_fields_are_as_in_the_tables() -> None:
    for row in rows():
        if not row["field"]:
            continue
        member = members(model(row["type"]))[row["field"]]
        assert member.required == bool(row["required"]), row
        if row["enum"]:
            assert member.shape.enum == tuple(filter(None, row["enum"].split("|"))), row


def test_every_model_can_be_built_and_read_by_both_names() -> None:
    for key in {row["type"] for row in rows()}:
        model(key).model_rebuild()
    assert Disk(name="a", boot_order=1) == Disk.model_validate({"name": "a", "bootOrder": 1})


def test_a_whole_object_comes_back_as_it_went_in() -> None:
    obj: dict[str, Any] = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "a", "labels": {"x": "y"}},
        "spec": {
            "hypervisor": {"anyOf": ["ch", "qemu"]},
            "domain": {"devices": {"interfaces": [{"name": "n", "macAddress": "02:00:00:00:00:01"}]}},
            "networks": [{"name": "n", "pod": {"vmIPv6NetworkCIDR": "fd10::/120"}}],
            "fieldOfTomorrow": {"a": [1]},
        },
        "status": {"VSOCKCID": 3, "guestOSInfo": {"name": "x"}, "migrationState": {"migrationUid": "u"}},
    }
    assert to_obj(VirtualMachineInstance.model_validate(obj)) == obj


def test_our_own_fields_stand_where_the_design_puts_them() -> None:
    assert "launcherImage" in members(HypervisorConfiguration)
    candidate = members(polyvisor.api.HypervisorStatus)["candidates"].shape.item
    assert candidate is not None
    assert candidate.model is polyvisor.api.HypervisorCandidate


def reachable(shape: Shape, found: dict[str, type[Model]]) -> None:
    if shape.item is not None:
        reachable(shape.item, found)
    if shape.model is not None and shape.model.__name__ not in found:
        found[shape.model.__name__] = shape.model
        for member in members(shape.model).values():
            reachable(member.shape, found)


def test_what_is_implemented_exists() -> None:
    found: dict[str, type[Model]] = {}
    ours = [resource for resource in RESOURCES if resource.custom or resource.group == CDI_GROUP]
    for kind in (model_of(resource.kind) for resource in ours if not resource.refused):
        reachable(Shape("object", model=kind), found)
    for name, fields in IMPLEMENTED.items():
        assert name in found, name
        assert fields is ALL or fields <= set(members(found[name])), name


def test_types_behind_implemented_fields_are_listed() -> None:
    """An implemented field whose type is left out of the table would refuse all that stands below it."""
    for name, fields in IMPLEMENTED.items():
        for member in members(getattr(polyvisor.api, name)).values():
            if (fields is not ALL and member.name not in fields) or member.name == "status":
                continue
            shape = member.shape
            while shape.item is not None:
                shape = shape.item
            if shape.model is None or not members(shape.model):
                continue
            ours = ".core." in shape.model.__module__ or shape.model.__module__.endswith(".hypervisor")
            assert ours or shape.model.__name__ in IMPLEMENTED, f"{name}.{member.name}: {shape.model.__name__}"


@pytest.mark.parametrize("generator", ["generate_types.py", "generate_crds.py"])
def test_generated_files_are_in_step(generator: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / generator), "--check"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_importing_the_package_is_cheap() -> None:
    code = "import time; t = time.process_time(); import polyvisor.api; print(time.process_time() - t)"
    took = min(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    )
    assert took < 0.2
