"""A machine needs something to boot from where its driver says so; only all of its volumes together tell."""

from __future__ import annotations

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api import Obj
from polyvisor.api.resources import VMIS
from polyvisor.drivers import DriverRegistry
from tests.admission.conftest import ALPHA, Fake, instance, no

RACK = Fake(
    "rack",
    ("box",),
    {},
    **{
        "boot.without-root": no("a box boots from something"),
        "volume.container-disk.further": no("one image is enough"),
        "volume.empty-disk": no("nothing is empty"),
    },
)
TREES = DriverRegistry([RACK, ALPHA])
IMAGE: Obj = {"containerDisk": {"image": "localhost/polyvisor/demo:1"}}


def bare(*volumes: Obj, driver: str = "rack", disks: list[Obj] | None = None) -> Obj:
    def change(spec: Obj) -> None:
        spec["domain"]["devices"] = {"disks": disks or []}
        spec["volumes"] = [{"name": f"v{number}", **volume} for number, volume in enumerate(volumes)]
        spec["networks"] = []
        if driver:
            spec["hypervisor"] = {"driver": driver}

    return instance(change)


@pytest.mark.parametrize(
    ("obj", "field", "feature"),
    [
        (bare(), "spec.volumes", "boot.without-root"),
        (bare({"cloudInitNoCloud": {"userData": "#cloud-config\n"}}), "spec.volumes", "boot.without-root"),
        (bare(IMAGE, disks=[{"name": "v0", "cdrom": {}}]), "spec.volumes", "boot.without-root"),
        (bare(IMAGE, IMAGE), "spec.volumes[1].containerDisk", "volume.container-disk.further"),
    ],
)
def test_what_all_volumes_together_lack_or_have_too_much(obj: Obj, field: str, feature: str) -> None:
    (problem,) = admit("CREATE", VMIS, obj, None, AdmissionContext({}, TREES)).problems
    assert (problem.field, problem.feature) == (field, feature)
    assert problem.message.endswith("(a manual); supported by alpha")
    obj["spec"]["hypervisor"] = {"anyOf": ["rack", "alpha"]}
    assert not admit("CREATE", VMIS, obj, None, AdmissionContext({}, TREES)).problems


@pytest.mark.parametrize(
    "volume",
    [
        IMAGE,
        {"persistentVolumeClaim": {"claimName": "c"}},
        {"dataVolume": {"name": "d"}},
        {"hostDisk": {"path": "/a", "type": "Disk"}},
        {"ephemeral": {"persistentVolumeClaim": {"claimName": "c"}}},
    ],
)
def test_a_root_may_be_on_any_volume_that_holds_something(volume: Obj) -> None:
    assert not admit("CREATE", VMIS, bare(volume), None, AdmissionContext({}, TREES)).problems
