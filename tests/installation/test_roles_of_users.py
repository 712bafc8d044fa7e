"""The rules of users' roles are KubeVirt's, as its ``pkg/virt-operator/resource/generate/rbac/cluster.go`` has them."""

from __future__ import annotations

import pytest

from polyvisor.api.resources import ENDPOINTS, RESOURCES
from polyvisor.server.subresources_discovery import resource_list
from tests.installation.test_render import rules

Rules = set[tuple[str, str, str]]
READ = ("get", "list", "watch")
EDIT = (*READ, "create", "update", "patch", "delete")
ALL = (*EDIT, "deletecollection")
SUBRESOURCES = "subresources.kubevirt.io"
KINDS = {
    "kubevirt.io": ["", "instances", "instancepresets", "instancereplicasets"],
    "snapshot.kubevirt.io": ["snapshots", "snapshotcontents", "restores"],
    "backup.kubevirt.io": ["backups", "backuptrackers"],
    "export.kubevirt.io": ["exports"],
    "clone.kubevirt.io": ["clones"],
    "pool.kubevirt.io": ["pools"],
    "instancetype.kubevirt.io": ["instancetypes", "clusterinstancetypes", "preferences", "clusterpreferences"],
}
"""Group -> plurals of kinds, without the ``virtualmachine`` that they begin with."""
SHOWN = ["guestosinfo", "filesystemlist", "userlist", "sev/fetchcertchain", "sev/querylaunchmeasurement", "objectgraph"]
SEEN = {
    *(f"virtualmachineinstances/{name}" for name in SHOWN),
    "virtualmachines/expand-spec",
    "virtualmachines/objectgraph",
}
OPENED = {
    *(f"virtualmachineinstances/{name}" for name in ("console", "vnc", "portforward", "usbredir")),
    "virtualmachines/portforward",
}
ACTS = ["addvolume", "removevolume", "evacuate/cancel"]
DONE = {
    "expand-vm-spec",
    *(f"virtualmachines/{name}" for name in ("start", "stop", "restart", "memorydump", "removememorydump", *ACTS)),
    *(f"virtualmachineinstances/{name}" for name in ("pause", "unpause", "freeze", "unfreeze", "softreboot", *ACTS)),
    *(f"virtualmachineinstances/{name}" for name in ("reset", "sev/setupsession", "sev/injectlaunchsecret")),
}


def of_kubevirt(level: str) -> Rules:
    verbs = {"view": READ, "edit": EDIT, "admin": ALL}[level]
    found = {
        (group, f"virtualmachine{name or 's'}", verb)
        for group, names in KINDS.items()
        for name in names
        for verb in verbs
    }
    found |= {("kubevirt.io", "virtualmachineinstancemigrations", verb) for verb in READ}
    found |= {("migrations.kubevirt.io", "migrationpolicies", verb) for verb in READ}
    if level != "admin":
        found |= {("kubevirt.io", "kubevirts", verb) for verb in ("get", "list")}
    read = SEEN if level == "view" else SEEN | OPENED
    if level == "admin":
        read = read | {"virtualmachineinstances/vnc/screenshot"}
    found |= {(SUBRESOURCES, name, "get") for name in read}
    return found | {(SUBRESOURCES, name, "update") for name in (["expand-vm-spec"] if level == "view" else DONE)}


@pytest.mark.parametrize("level", ["view", "edit", "admin"])
def test_a_role_grants_what_kubevirts_grants(level: str) -> None:
    scaled = (("kubevirt.io", "virtualmachineinstancereplicasets"), ("pool.kubevirt.io", "virtualmachinepools"))
    scale = {(group, f"{plural}/scale", verb) for group, plural in scaled for verb in ("get", "update", "patch")}
    assert rules(f"kubevirt.io:{level}") - scale == of_kubevirt(level)


def test_who_may_migrate_is_a_role_of_its_own() -> None:
    migrations = {("kubevirt.io", "virtualmachineinstancemigrations", verb) for verb in ALL}
    assert rules("kubevirt.io:migrate") == migrations | {(SUBRESOURCES, "virtualmachines/migrate", "update")}


def test_everyone_may_see_the_version_and_the_installation() -> None:
    read = {(SUBRESOURCES, name) for name in ("version", "guestfs")} | {("kubevirt.io", "kubevirts")}
    assert rules("kubevirt.io:default") == {(*one, verb) for one in read for verb in ("get", "list")}
    cluster = ("virtualmachineclusterinstancetypes", "virtualmachineclusterpreferences")
    assert rules("instancetype.kubevirt.io:view") == {
        ("instancetype.kubevirt.io", name, verb) for name in cluster for verb in READ
    }


def test_every_kind_and_subresource_that_is_served_can_be_granted() -> None:
    admin = rules("kubevirt.io:admin")
    administrators = {("kubevirt.io", "kubevirts"), (ENDPOINTS.group, ENDPOINTS.plural)}
    named = {(one.group, one.plural) for one in RESOURCES if one.custom} - administrators
    assert named - {(group, resource) for group, resource, _ in admin} == set()
    served = {(SUBRESOURCES, one["name"], verb) for one in resource_list("v1")["resources"] for verb in one["verbs"]}
    assert served - admin == rules("kubevirt.io:migrate") & served
