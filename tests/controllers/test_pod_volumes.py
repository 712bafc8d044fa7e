"""The launcher Pod's parts for a machine's volumes, in KubeVirt's shape."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.api import launcher_pods, names
from polyvisor.api.launcher_pods import STATE_FOLDER
from polyvisor.controllers.pod_volumes import PodStorage, pod_storage

from .conftest import World

Obj = dict[str, Any]
KERNEL = {"firmware": {"kernelBoot": {"container": {"image": "k:1", "kernelPath": "/vmlinuz", "imagePullSecret": "s"}}}}


SHARE = ("share", "--socket={socket}", "{folder}")


def storage(*volumes: Obj, claims: dict[str, Obj] | None = None, privileged: bool = False, **domain: Any) -> PodStorage:
    spec = {"domain": domain, "volumes": list(volumes)}
    return pod_storage(spec, claims or {}, launcher_image="l:1", privileged=privileged, share=SHARE)


def test_an_image_lives_in_a_container_of_its_own() -> None:
    disk = {"image": "a:1", "imagePullPolicy": "Never", "imagePullSecret": "s"}
    found = storage({"name": "root", "containerDisk": disk}, **KERNEL)
    root, kernel = found.containers
    assert (root["name"], kernel["name"]) == ("volumeroot", "volumekernel-boot-volume")
    assert (root["image"], root["imagePullPolicy"]) == ("a:1", "Never")
    assert "imagePullPolicy" not in kernel
    for container in found.containers:
        (mount,) = container["volumeMounts"]
        assert mount["readOnly"]
        assert container["command"] == [f"{mount['mountPath']}/waits"], "an image may hold no program at all"
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"]
        assert security["runAsNonRoot"]
        assert security["capabilities"] == {"drop": ["ALL"]}
    place = container["command"][0]
    assert place in found.after_start, "the launcher's container has brought it before they start"
    (own,) = (one for one in found.mounts if one["name"] == mount["name"])
    assert not own.get("readOnly"), own
    assert place.startswith(own["mountPath"])
    assert not found.init_containers, "a kubelet takes its time to notice the end of one"
    assert found.pull_secrets == [{"name": "s"}]


def test_without_images_there_is_nothing_that_brings_a_program() -> None:
    found = storage({"name": "data", "emptyDisk": {"capacity": "1Mi"}})
    assert not found.after_start
    assert not found.containers
    assert [one["name"] for one in found.volumes] == ["polyvisor-machine", "hotplug-disks"]


@pytest.mark.parametrize("privileged", [False, True])
def test_the_agents_folders_are_not_the_launchers_to_write(privileged: bool) -> None:
    mounts = storage(privileged=privileged).mounts
    assert [mount["name"] for mount in mounts] == ["polyvisor-machine", "hotplug-disks"]
    assert all(mount.get("readOnly", False) is not privileged for mount in mounts)


def test_cloud_inits_discs_are_seen_where_kubevirts_launchers_have_them() -> None:
    mounts = storage({"name": "seed", "cloudInitNoCloud": {"userData": "x"}}).mounts
    place = "/var/run/kubevirt-ephemeral-disks"
    assert {"name": "polyvisor-machine", "mountPath": place, "readOnly": True} in mounts


def test_claims_are_volumes_of_the_pod() -> None:
    volumes = [
        {"name": "a", "persistentVolumeClaim": {"claimName": "c"}},
        {"name": "b", "dataVolume": {"name": "d"}},
        {"name": "e", "ephemeral": {"persistentVolumeClaim": {"claimName": "f"}}},
        {"name": "raw", "persistentVolumeClaim": {"claimName": "block"}},
    ]
    found = storage(*volumes, claims={"block": {"spec": {"volumeMode": "Block"}}})
    assert [one["persistentVolumeClaim"]["claimName"] for one in found.volumes[:-2]] == ["c", "d", "f", "block"]
    assert found.mounts[:-2] == [
        {"name": "a", "mountPath": "/var/run/kubevirt-private/vmi-disks/a"},
        {"name": "b", "mountPath": "/var/run/kubevirt-private/vmi-disks/b"},
        {"name": "e", "mountPath": "/var/run/kubevirt-private/vmi-disks/e", "readOnly": True},
    ]
    assert found.devices == [{"name": "raw", "devicePath": "/dev/raw"}]


def test_what_may_come_and_go_is_not_the_launcher_pods() -> None:
    volume = {"name": "a", "persistentVolumeClaim": {"claimName": "c", "hotpluggable": True}}
    found = storage(volume, {"name": "b", "dataVolume": {"name": "d", "hotpluggable": True}})
    assert [one["name"] for one in found.volumes] == ["polyvisor-machine", "hotplug-disks"]


def test_texts_are_volumes_that_the_kubelet_makes() -> None:
    field = {"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}
    volumes = [
        {"name": "c", "configMap": {"name": "cm", "optional": True, "volumeLabel": "x"}},
        {"name": "s", "secret": {"secretName": "sec"}},
        {"name": "d", "downwardAPI": {"fields": [field]}},
        {"name": "w", "sysprep": {"secret": {"name": "answers"}}},
        {"name": "v", "sysprep": {"configMap": {"name": "answers"}}},
        {"name": "i", "cloudInitNoCloud": {"secretRef": {"name": "u"}, "networkDataSecretRef": {"name": "n"}}},
    ]
    found = storage(*volumes)
    assert found.volumes[:-2] == [
        {"name": "c", "configMap": {"name": "cm", "optional": True}},
        {"name": "s", "secret": {"secretName": "sec", "optional": False}},
        {"name": "d", "downwardAPI": {"items": [field]}},
        {"name": "w", "secret": {"secretName": "answers"}},
        {"name": "v", "configMap": {"name": "answers"}},
        {"name": "i-udata", "secret": {"secretName": "u"}},
        {"name": "i-ndata", "secret": {"secretName": "n"}},
    ]
    assert all(mount["readOnly"] for mount in found.mounts)
    assert len({mount["mountPath"] for mount in found.mounts}) == len(found.mounts)


@pytest.mark.parametrize("name", ["polyvisor", "polyvisor-machine", "polyvisor-programs", "hotplug-disks", "v" * 63])
def test_a_volumes_name_fits_and_meets_none_of_ours(name: str) -> None:
    assert launcher_pods.pod_volume(name) not in launcher_pods.OWN_VOLUMES
    assert len(launcher_pods.pod_volume(name, "udata")) <= 63
    assert len(launcher_pods.image_container(name)) <= 63
    assert launcher_pods.image_container("kernel-boot-volume") != launcher_pods.KERNEL_CONTAINER


async def test_the_pod_holds_all_of_it(world: World) -> None:
    volume = {"name": "root", "containerDisk": {"image": "a:1", "imagePullSecret": "s"}}
    await world.create_vmi("m", {"volumes": [volume]})
    spec = (await world.pod("m"))["spec"]
    assert [one["name"] for one in spec["containers"]] == ["compute", "volumeroot", "guest-console-log"]
    assert spec["containers"][0]["lifecycle"]["postStart"]["exec"]["command"][0] == "/bin/busybox"
    assert spec["imagePullSecrets"] == [{"name": "s"}]
    mounted = {m["name"] for c in spec["containers"] for m in c["volumeMounts"]}
    assert mounted == {one["name"] for one in spec["volumes"]}
    compute = spec["containers"][0]
    assert compute["securityContext"]["runAsUser"] == names.LAUNCHER_USER
    assert spec["securityContext"]["fsGroup"] == names.LAUNCHER_USER


def test_secrets_of_access_credentials_are_volumes_that_may_be_missing() -> None:
    agent = {"qemuGuestAgent": {}}
    password = {"source": {"secret": {"secretName": "my.words"}}, "propagationMethod": agent}
    spec = {"domain": {}, "accessCredentials": [{"userPassword": password}, {"userPassword": password}]}
    found = pod_storage(spec, {}, launcher_image="l:1", privileged=False)
    volume = next(one for one in found.volumes if "secret" in one)
    assert volume == {"name": "my-words-access-cred", "secret": {"secretName": "my.words", "optional": True}}
    mounts = [mount for mount in found.mounts if mount["name"] == volume["name"]]
    assert [mount["mountPath"] for mount in mounts] == [f"{launcher_pods.SECRETS}/my-words-access-cred"]


LIMITED = {"limits": {"cpu": "1", "memory": "64M"}}


@pytest.mark.parametrize(
    ("resources", "firm"),
    [
        (LIMITED, True),
        (LIMITED | {"requests": LIMITED["limits"]}, True),
        (LIMITED | {"requests": {"cpu": "500m"}}, False),
    ],
)
async def test_small_containers_spoil_no_guarantee(world: World, resources: Obj, firm: bool) -> None:
    volume = {"name": "root", "containerDisk": {"image": "a:1"}}
    await world.create_vmi("m", {"volumes": [volume], "domain": {"devices": {}, "resources": resources}})
    spec = (await world.pod("m"))["spec"]
    for container in spec["containers"]:
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        same = all(requests[name] == limits[name] for name in ("cpu", "memory"))
        assert same is firm, container["name"]


async def test_a_launcher_is_told_to_fail_by_kubevirts_annotation(world: World) -> None:
    await world.create_vmi("m", annotations={"kubevirt.io/func-test-virt-launcher-fail-fast": ""})
    compute = (await world.pod("m"))["spec"]["containers"][0]
    assert "SystemExit" in compute["command"][-1]


@pytest.mark.parametrize("privileged", [False, True])
def test_a_service_accounts_token_is_mounted_by_nothing_that_goes_on_running(privileged: bool) -> None:
    found = storage({"name": "account", "serviceAccount": {"serviceAccountName": "worker"}}, privileged=privileged)
    (volume,) = (one for one in found.volumes if one["name"] == "account")
    token, authority, namespace = volume["projected"]["sources"]
    assert token["serviceAccountToken"]["path"] == "token"
    assert authority["configMap"]["items"] == [{"key": "ca.crt", "path": "ca.crt"}]
    assert namespace["downwardAPI"]["items"][0]["path"] == "namespace"
    (once,) = found.init_containers
    assert [mount["name"] for mount in once["volumeMounts"]] == ["account"]
    assert "account" not in {mount["name"] for mount in found.mounts}
    assert not found.containers


def test_the_claim_of_a_machines_own_state_is_the_launchers_to_write() -> None:
    found = pod_storage({}, {}, launcher_image="l:1", privileged=False, state="persistent-state-for-m")
    assert found.volumes[0] == {
        "name": "vm-state",
        "persistentVolumeClaim": {"claimName": "persistent-state-for-m"},
    }
    assert found.mounts[0] == {"name": "vm-state", "mountPath": STATE_FOLDER}


def test_what_a_guest_mounts_is_shared_by_a_container_of_its_own() -> None:
    volumes: list[Obj] = [
        {"name": "data", "persistentVolumeClaim": {"claimName": "c"}},
        {"name": "texts", "configMap": {"name": "m"}},
        {"name": "account", "serviceAccount": {"serviceAccountName": "worker"}},
    ]
    folders = [{"name": volume["name"], "virtiofs": {}} for volume in volumes]
    found = storage(*volumes, devices={"filesystems": folders})
    assert [one["name"] for one in found.containers] == ["virtiofs-data", "virtiofs-texts", "virtiofs-account"]
    assert [one["command"][-2] for one in found.containers] == [
        f"--socket=/var/run/kubevirt/virtiofs-containers/{name}.sock" for name in ("data", "texts", "account")
    ]
    for container, read_only in zip(found.containers, (False, True, True), strict=True):
        mount, sockets = container["volumeMounts"]
        assert container["command"][-1] == mount["mountPath"]
        assert mount.get("readOnly", False) is read_only
        assert sockets == {"name": "virtiofs-containers", "mountPath": "/var/run/kubevirt/virtiofs-containers"}
        assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert [one["name"] for one in found.mounts] == ["virtiofs-containers", "polyvisor-machine", "hotplug-disks"]
    assert found.mounts[0]["readOnly"], "the launcher only asks there"
    names_ = [one["name"] for one in found.volumes]
    assert len(names_) == len(set(names_)), names_
    assert not found.init_containers, "the token is mounted by the container that shares it"


def test_a_block_device_is_no_folder_and_the_agent_says_so() -> None:
    folders = [{"name": "data", "virtiofs": {}}]
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "c"}}
    found = storage(volume, claims={"c": {"spec": {"volumeMode": "Block"}}}, devices={"filesystems": folders})
    assert not found.containers
    assert found.devices == [{"name": "data", "devicePath": "/dev/data"}]
