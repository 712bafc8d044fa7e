from __future__ import annotations

from typing import Any

from polyvisor.api.pools import FINALIZER, REVISION_LABEL
from polyvisor.controllers.pools.template import free_names, index_of, machine_of, updated
from polyvisor.placement.permission import ANNOTATION

Obj = dict[str, Any]


def pool(**spec: Any) -> Obj:
    template = {
        "metadata": {"labels": {"app": "web"}, "annotations": {"note": "x", ANNOTATION: "everything"}},
        "spec": {
            "runStrategy": "Always",
            "dataVolumeTemplates": [{"metadata": {"name": "root"}, "spec": {}}],
            "template": {
                "spec": {
                    "domain": {},
                    "volumes": [
                        {"name": "a", "dataVolume": {"name": "root"}},
                        {"name": "b", "persistentVolumeClaim": {"claimName": "shared"}},
                        {"name": "c", "configMap": {"name": "conf"}},
                        {"name": "d", "secret": {"secretName": "sec"}},
                        {"name": "e", "cloudInitNoCloud": {"secretRef": {"name": "seed"}}},
                        {"name": "f", "sysprep": {"configMap": {"name": "prep"}}},
                    ],
                }
            },
        },
    }
    return {
        "metadata": {"name": "web", "namespace": "ns", "uid": "u", "generation": 3},
        "spec": {"virtualMachineTemplate": template} | spec,
    }


def volumes(vm: Obj) -> list[Obj]:
    return [
        {key: value for key, value in volume.items() if key != "name"}
        for volume in vm["spec"]["template"]["spec"]["volumes"]
    ]


def test_names_fill_the_lowest_indexes_that_are_free() -> None:
    assert free_names("web", ["web-0", "web-2", "other-1"], 3) == ["web-1", "web-3", "web-4"]
    assert [index_of(name) for name in ("web-12", "web", "web-x", "web-\u0661")] == [12, None, None, None]


def test_a_machine_has_the_template_with_its_own_data_volumes_and_the_revision() -> None:
    vm = machine_of(pool(), "web-4")
    assert vm["metadata"]["labels"] == {"app": "web", REVISION_LABEL: "web-3"}
    assert vm["metadata"]["finalizers"] == [FINALIZER]
    assert vm["spec"]["template"]["metadata"]["labels"] == {REVISION_LABEL: "web-3"}
    assert vm["spec"]["dataVolumeTemplates"][0]["metadata"]["name"] == "root-4"
    assert volumes(vm)[:4] == [
        {"dataVolume": {"name": "root-4"}},
        {"persistentVolumeClaim": {"claimName": "shared"}},
        {"configMap": {"name": "conf"}},
        {"secret": {"secretName": "sec"}},
    ]


def test_references_get_the_index_where_the_pool_asks_for_it() -> None:
    generation = {"appendIndexToSecretRefs": True, "appendIndexToConfigMapRefs": True}
    assert volumes(machine_of(pool(nameGeneration=generation), "web-4"))[2:] == [
        {"configMap": {"name": "conf-4"}},
        {"secret": {"secretName": "sec-4"}},
        {"cloudInitNoCloud": {"secretRef": {"name": "seed-4"}}},
        {"sysprep": {"configMap": {"name": "prep-4"}}},
    ]


def test_a_template_cannot_grant_drivers_that_the_pools_writer_was_not_allowed() -> None:
    assert machine_of(pool(), "web-0")["metadata"]["annotations"] == {"note": "x"}
    allowed = pool()
    allowed["metadata"]["annotations"] = {ANNOTATION: "box"}
    assert machine_of(allowed, "web-0")["metadata"]["annotations"][ANNOTATION] == "box"


def test_an_update_keeps_what_the_guest_knows_its_machine_by() -> None:
    vm = machine_of(pool(), "web-4")
    vm["spec"]["template"]["spec"]["domain"]["firmware"] = {"uuid": "1", "serial": "2", "bootloader": {"efi": {}}}
    vm["metadata"]["uid"] = "kept"
    new = updated(pool() | {"metadata": {**pool()["metadata"], "generation": 4}}, vm)
    assert new["spec"]["template"]["spec"]["domain"]["firmware"] == {"uuid": "1", "serial": "2"}
    assert (new["metadata"]["uid"], new["metadata"]["labels"][REVISION_LABEL]) == ("kept", "web-4")
