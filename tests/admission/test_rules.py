"""One rule at a time: a change to a good instance, the place that is named, and what is said."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api import Obj
from polyvisor.api.resources import VMIS, VMS
from tests.admission.conftest import Change, instance, machine, put

DISKS = "domain.devices.disks"
NICS = "domain.devices.interfaces"
SPREAD = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}


NO_SIZE = "such as 512Mi"
LABELS = {"fieldPath": "metadata.labels"}
STATUS = {"fieldPath": "status.podIP"}


def both(*changes: Change) -> Change:
    def change(spec: Obj) -> None:
        for one in changes:
            one(spec)

    return change


def drop(key: str) -> Change:
    return lambda spec: spec.pop(key)


CASES: list[tuple[Change, str, str]] = [
    # -- disks and volumes -----------------------------------------------------------------------------------------
    (put(f"{DISKS}.0.name", "rot"), f"{DISKS}[0].name", "no volume has the name 'rot'; volumes: root, seed"),
    (put(f"{DISKS}.1.name", "root"), f"{DISKS}[1].name", "is the name of spec.domain.devices.disks[0] already"),
    (put(f"{DISKS}.0.cdrom", {}), f"{DISKS}[0]", "disk and cdrom exclude each other"),
    (put(f"{DISKS}.1.cdrom.bus", "virtio"), f"{DISKS}[1].cdrom.bus", "accepted: sata, scsi, usb"),
    (put(f"{DISKS}.1.cdrom.readonly", False), f"{DISKS}[1].cdrom.readonly", "always read-only"),
    (put(f"{DISKS}.0.bootOrder", 0), f"{DISKS}[0].bootOrder", "starts at 1"),
    (
        both(put(f"{DISKS}.0.bootOrder", 1), put(f"{NICS}.0.bootOrder", 1)),
        f"{NICS}[0].bootOrder",
        "is the boot order of spec.domain.devices.disks[0]",
    ),
    (put(f"{DISKS}.0.serial", "a/b"), f"{DISKS}[0].serial", "letters, digits"),
    (both(put(f"{DISKS}.0.io", "native"), put(f"{DISKS}.0.cache", "writeback")), f"{DISKS}[0].io", "cache: none"),
    (put("volumes.0", {"name": "root"}), "volumes[0]", "a source is wanted, one of cloudInitConfigDrive, cloudInitNo"),
    (put("volumes.0.emptyDisk", {"capacity": "1Gi"}), "volumes[0]", "containerDisk and emptyDisk exclude each other"),
    (
        put("volumes.2", {"name": "more", "cloudInitNoCloud": {"userData": "x"}}),
        "volumes[2].cloudInitNoCloud",
        "one cloud-init volume",
    ),
    (
        put("volumes.2", {"name": "more", "cloudInitConfigDrive": {"userData": "x"}}),
        "volumes[2].cloudInitConfigDrive",
        "one cloud-init volume",
    ),
    (
        put("volumes.1", {"name": "seed", "cloudInitConfigDrive": {"networkDataBase64": "no base64!"}}),
        "volumes[1].cloudInitConfigDrive.networkDataBase64",
        "no base64",
    ),
    (
        put("volumes.0", {"name": "root", "emptyDisk": {"capacity": "0"}}),
        "volumes[0].emptyDisk.capacity",
        "such as 1Gi",
    ),
    (put("volumes.0", {"name": "root", "emptyDisk": {"capacity": -1}}), "volumes[0].emptyDisk.capacity", "such as 1Gi"),
    (
        put("volumes.0", {"name": "root", "hostDisk": {"path": "/a/b.img", "type": "DiskOrCreate"}}),
        "volumes[0].hostDisk.capacity",
        "required for type DiskOrCreate",
    ),
    (
        both(
            put("volumes.0", {"name": "root", "persistentVolumeClaim": {"claimName": "c"}}),
            put("volumes.2", {"name": "again", "persistentVolumeClaim": {"claimName": "c"}}),
        ),
        "volumes[2].persistentVolumeClaim.claimName",
        "'c' is the volume spec.volumes[0] already",
    ),
    (
        both(
            put("volumes.0", {"name": "root", "persistentVolumeClaim": {"claimName": "c"}}),
            put("volumes.2", {"name": "again", "dataVolume": {"name": "c"}}),
        ),
        "volumes[2].dataVolume.name",
        "'c' is the volume spec.volumes[0] already",
    ),
    (put("volumes.0", {"name": "root", "dataVolume": {"name": "../c"}}), "volumes[0].dataVolume.name", "lower-case"),
    (
        put("volumes.0", {"name": "root", "ephemeral": {}}),
        "volumes[0].ephemeral.persistentVolumeClaim",
        "the claim to put a layer above",
    ),
    (
        put("volumes.0", {"name": "root", "ephemeral": {"persistentVolumeClaim": {"claimName": "a/b"}}}),
        "volumes[0].ephemeral.persistentVolumeClaim.claimName",
        "lower-case",
    ),
    # -- texts -----------------------------------------------------------------------------------------------------
    (put("volumes.0", {"name": "root", "configMap": {}}), "volumes[0].configMap.name", "the name of a ConfigMap"),
    (put("volumes.0", {"name": "root", "secret": {}}), "volumes[0].secret.secretName", "the name of a Secret"),
    (
        put("volumes.0", {"name": "root", "configMap": {"name": "c", "volumeLabel": "a b"}}),
        "volumes[0].configMap.volumeLabel",
        "at most 32",
    ),
    (put("volumes.0", {"name": "root", "sysprep": {}}), "volumes[0].sysprep", "one of configMap, secret"),
    (
        put("volumes.0", {"name": "root", "sysprep": {"configMap": {"name": "a"}, "secret": {"name": "b"}}}),
        "volumes[0].sysprep",
        "exclude each other",
    ),
    (put("volumes.0", {"name": "root", "downwardAPI": {}}), "volumes[0].downwardAPI.fields", "at least one file"),
    (
        put("volumes.0", {"name": "root", "downwardAPI": {"fields": [{"path": "../x", "fieldRef": LABELS}]}}),
        "volumes[0].downwardAPI.fields[0].path",
        "'..'",
    ),
    (
        put("volumes.0", {"name": "root", "downwardAPI": {"fields": [{"path": "x", "fieldRef": STATUS}]}}),
        "volumes[0].downwardAPI.fields[0].fieldRef.fieldPath",
        "accepted: metadata.name",
    ),
    # -- cloud-init ------------------------------------------------------------------------------------------------
    (put("volumes.1.cloudInitNoCloud", {}), "volumes[1].cloudInitNoCloud", "userData, userDataBase64, secretRef"),
    (
        put("volumes.1.cloudInitNoCloud.userDataBase64", "eA=="),
        "volumes[1].cloudInitNoCloud.userDataBase64",
        "userData and userDataBase64 exclude each other",
    ),
    (
        put("volumes.1.cloudInitNoCloud", {"userDataBase64": "no base64!"}),
        "volumes[1].cloudInitNoCloud.userDataBase64",
        "is no base64",
    ),
    (
        put("volumes.1.cloudInitNoCloud.userData", "x" * 2049),
        "volumes[1].cloudInitNoCloud.userData",
        "at most 2048 fit, put more into a Secret",
    ),
    (
        put("volumes.1.cloudInitNoCloud", {"userDataBase64": base64.b64encode(b"x" * 2049).decode()}),
        "volumes[1].cloudInitNoCloud.userDataBase64",
        "is 2049 bytes long",
    ),
    (
        put("volumes.1.cloudInitNoCloud.networkData", "é" * 1025),
        "volumes[1].cloudInitNoCloud.networkData",
        "is 2050 bytes long",
    ),
    (
        put("volumes.1.cloudInitNoCloud", {"secretRef": {}}),
        "volumes[1].cloudInitNoCloud.secretRef.name",
        "required; the name of a Secret",
    ),
    # -- networks --------------------------------------------------------------------------------------------------
    (
        put(f"{NICS}.1", {"name": "x", "masquerade": {}}),
        f"{NICS}[1].name",
        "no network has the name 'x'; networks: default",
    ),
    (put("networks.1", {"name": "default", "pod": {}}), "networks[1].name", "is the name of spec.networks[0] already"),
    (put(f"{NICS}.0", {"name": "default"}), f"{NICS}[0]", "a binding is wanted, one of: masquerade: {}"),
    (put("networks.0", {"name": "default"}), "networks[0]", "a network is wanted, one of pod"),
    (put("networks.0.pod.vmNetworkCIDR", "10.0.2/24"), "networks[0].pod.vmNetworkCIDR", "is no IPv4 network"),
    (put("networks.0.pod.vmNetworkCIDR", "10.0.2.0/31"), "networks[0].pod.vmNetworkCIDR", "has no room"),
    (
        both(put("networks.0", {"name": "default", "multus": {"networkName": "a"}}), put(f"{NICS}.0.masquerade", {})),
        f"{NICS}[0].masquerade",
        "on the Pod's network alone",
    ),
    (put("networks.0.multus", {"networkName": "a"}), "networks[0]", "pod and multus exclude each other"),
    (put(f"{NICS}.0.dhcpOptions", {"bootFileName": 'a",b'}), f"{NICS}[0].dhcpOptions.bootFileName", "without quotes"),
    (put(f"{NICS}.0.dhcpOptions", {"tftpServerName": "a\nb"}), f"{NICS}[0].dhcpOptions.tftpServerName", "printable"),
    (put(f"{NICS}.0.dhcpOptions", {"ntpServers": ["x"]}), f"{NICS}[0].dhcpOptions.ntpServers[0]", "no IPv4 address"),
    (
        put(f"{NICS}.0.dhcpOptions", {"privateOptions": [{"option": 66, "value": "x"}]}),
        f"{NICS}[0].dhcpOptions.privateOptions[0].option",
        "224 to 254",
    ),
    (put(f"{NICS}.0.macAddress", "02:00"), f"{NICS}[0].macAddress", "such as 02:00:00:00:00:01"),
    (put(f"{NICS}.0.macAddress", "03:00:00:00:00:01"), f"{NICS}[0].macAddress", "multicast"),
    (put(f"{NICS}.0.macAddress", "00:00:00:00:00:00"), f"{NICS}[0].macAddress", "all zeros"),
    (put(f"{NICS}.0.ports", [{"port": 0}]), f"{NICS}[0].ports[0].port", "1 to 65535"),
    (put(f"{NICS}.0.ports", [{"port": 80}, {"port": 80, "protocol": "TCP"}]), f"{NICS}[0].ports[1]", "TCP port 80"),
    # -- hardware --------------------------------------------------------------------------------------------------
    (put("domain.cpu.cores", -1), "domain.cpu.cores", "1 or more"),
    (put("domain.cpu", {"cores": 64, "sockets": 64}), "domain.cpu", "make 4096 CPUs; at most 1024"),
    (put("domain.memory", {}), "domain.memory.guest", "such as 512Mi"),
    (put("domain.memory.guest", "64m"), "domain.memory.guest", "a fraction of a byte"),
    (put("domain.memory.guest", 64), "domain.memory.guest", "did you mean 64Mi?"),
    (put("domain.memory.guest", "-1Gi"), "domain.memory.guest", "1Mi to"),
    (put("domain.memory.guest", "2Ei"), "domain.memory.guest", "found 2Ei; 1Mi to 1Ei are accepted"),
    (put("domain.resources.limits", {"memory": "32Mi"}), "domain.memory.guest", "more than the limit of 32Mi"),
    (
        put("domain.resources", {"requests": {"cpu": "2"}, "limits": {"cpu": "1500m"}}),
        "domain.resources.requests[cpu]",
        "more than the limit of 1500m",
    ),
    (
        put("domain.resources.limits", {"nvidia.com/gpu": 1}),
        "domain.resources.limits[nvidia.com/gpu]",
        "not implemented by Polyvisor yet",
    ),
    (put("domain.firmware.uuid", "x"), "domain.firmware.uuid", "such as 5d307ca9-"),
    (put("domain.firmware.bootloader", {"bios": {}, "efi": {}}), "domain.firmware.bootloader", "exclude each other"),
    (put("domain.firmware.kernelBoot", {"kernelArgs": "quiet"}), "domain.firmware.kernelBoot.container", "required"),
    (
        put("domain.firmware.kernelBoot", {"container": {"image": "localhost/k:1"}}),
        "domain.firmware.kernelBoot.container.kernelPath",
        "such as /boot/vmlinuz",
    ),
    (
        put("domain.firmware.kernelBoot", {"container": {"image": "localhost/k:1", "initrdPath": "/i"}}),
        "domain.firmware.kernelBoot.container.kernelPath",
        "required",
    ),
    (put("domain.clock", {"timezone": "../x"}), "domain.clock.timezone", "such as Europe/Berlin"),
    (put("domain.clock", {"timezone": "UTC", "utc": {}}), "domain.clock", "exclude each other"),
    (put("domain.devices.watchdog", {"name": "w"}), "domain.devices.watchdog", "one of i6300esb, diag288"),
    (
        put("domain.devices.inputs", [{"name": "i", "type": "keyboard"}]),
        "domain.devices.inputs[0].type",
        "accepted: tablet",
    ),
    # -- scheduling ------------------------------------------------------------------------------------------------
    (put("terminationGracePeriodSeconds", -1), "terminationGracePeriodSeconds", "0 to 604800"),
    (put("hostname", "A.b"), "hostname", "no DNS label"),
    (put("subdomain", "a_b"), "subdomain", "no DNS label"),
    (put("dnsPolicy", "None"), "dnsConfig.nameservers", "at least one is wanted with dnsPolicy None"),
    (put("dnsConfig", {"nameservers": ["10.0.0.10", "dns"]}), "dnsConfig.nameservers[1]", "'dns' is no IP address"),
    (put("dnsConfig", {"nameservers": ["10.0.0.1"] * 4}), "dnsConfig.nameservers", "at most 3"),
    (put("dnsConfig", {"searches": ["ok.example", "a b"]}), "dnsConfig.searches[1]", "a b"),
    (put("dnsConfig", {"options": [{"value": "2"}]}), "dnsConfig.options[0].name", "such as ndots"),
    (put("topologySpreadConstraints", [SPREAD | {"maxSkew": 0}]), "topologySpreadConstraints[0].maxSkew", "1 or more"),
    (
        put("topologySpreadConstraints", [SPREAD | {"topologyKey": "a b"}]),
        "topologySpreadConstraints[0].topologyKey",
        "not a valid key",
    ),
    (
        put("topologySpreadConstraints", [SPREAD, SPREAD]),
        "topologySpreadConstraints[1].topologyKey",
        "there is a constraint for zone and DoNotSchedule already",
    ),
    (
        put("topologySpreadConstraints", [SPREAD | {"minDomains": 2, "whenUnsatisfiable": "ScheduleAnyway"}]),
        "topologySpreadConstraints[0].minDomains",
        "DoNotSchedule",
    ),
    (put("nodeSelector", {"a b": "c"}), "nodeSelector[a b]", "not a valid key"),
    (put("tolerations", [{"operator": "Equal"}]), "tolerations[0].key", "unless the operator is Exists"),
    (put("tolerations", [{"operator": "Exists", "value": "x"}]), "tolerations[0].value", "leave it out"),
    (
        put("tolerations", [{"key": "a", "tolerationSeconds": 1, "effect": "NoSchedule"}]),
        "tolerations[0].tolerationSeconds",
        "effect: NoExecute",
    ),
    (
        put(
            "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms",
            [{"matchExpressions": [{"key": "a", "operator": "In"}]}],
        ),
        "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values",
        "at least one value",
    ),
]


@pytest.mark.parametrize(("change", "field", "words"), CASES, ids=[f"{field}: {words}" for _, field, words in CASES])
def test_an_instance_is_refused(change: Change, field: str, words: str, context: AdmissionContext) -> None:
    problems = admit("CREATE", VMIS, instance(change), None, context).problems
    assert [problem.field for problem in problems] == [f"spec.{field}"], [str(p) for p in problems]
    assert words in problems[0].message


@pytest.mark.parametrize(("change", "field", "words"), CASES, ids=[f"{field}: {words}" for _, field, words in CASES])
def test_a_template_is_refused_for_the_same(change: Change, field: str, words: str, context: AdmissionContext) -> None:
    outcome = admit("CREATE", VMS, machine(change), None, context)
    if words == NO_SIZE:  # as with KubeVirt, the instance is refused, and the machine warned of
        assert any(warning.startswith(f"spec.template.spec.{field}") for warning in outcome.warnings)
        return
    problems = outcome.problems
    assert [problem.field for problem in problems] == [f"spec.template.spec.{field}"], [str(p) for p in problems]


def test_a_machine_has_one_pod_network_and_no_loose_ones(context: AdmissionContext) -> None:
    problems = admit("CREATE", VMIS, instance(put("networks.1", {"name": "x", "pod": {}})), None, context).problems
    assert [problem.field for problem in problems] == ["spec.networks[1].name", "spec.networks[1].pod"]


ESCAPES = ["..", "../x", "/../x", "/a/../x", "/a/..", "a/../../b", "./x", "/./x", "/a/", "", " ", "/", "x\x00", "\x00"]
PATHS: dict[str, Any] = {
    "volumes[0].containerDisk.image": lambda bad: put("volumes.0.containerDisk.image", bad),
    "volumes[0].containerDisk.path": lambda bad: put("volumes.0.containerDisk.path", bad),
    "volumes[0].hostDisk.path": lambda bad: put(
        "volumes.0", {"name": "root", "hostDisk": {"path": bad, "type": "Disk"}}
    ),
    "volumes[0].persistentVolumeClaim.claimName": lambda bad: put(
        "volumes.0", {"name": "root", "persistentVolumeClaim": {"claimName": bad}}
    ),
    "volumes[0].name": lambda bad: both(put("volumes.0.name", bad), put(f"{DISKS}.0.name", bad)),
    "volumes[1].cloudInitNoCloud.secretRef.name": lambda bad: put(
        "volumes.1.cloudInitNoCloud", {"secretRef": {"name": bad}}
    ),
    "volumes[1].cloudInitNoCloud.networkDataSecretRef.name": lambda bad: put(
        "volumes.1.cloudInitNoCloud", {"networkDataSecretRef": {"name": bad}}
    ),
    "networks[0].multus.networkName": lambda bad: both(
        put("networks.0", {"name": "default", "multus": {"networkName": bad}}),
        put(f"{NICS}.0", {"name": "default", "bridge": {}}),
    ),
    "networks[0].name": lambda bad: both(put("networks.0.name", bad), put(f"{NICS}.0.name", bad)),
    "hostname": lambda bad: put("hostname", bad),
    "priorityClassName": lambda bad: put("priorityClassName", bad),
    "domain.firmware.uuid": lambda bad: put("domain.firmware.uuid", bad),
    "domain.firmware.kernelBoot.container.image": lambda bad: put(
        "domain.firmware.kernelBoot.container", {"image": bad, "kernelPath": "/k"}
    ),
    "domain.firmware.kernelBoot.container.kernelPath": lambda bad: put(
        "domain.firmware.kernelBoot.container", {"image": "k:1", "kernelPath": bad, "initrdPath": "/i"}
    ),
    "domain.firmware.kernelBoot.container.initrdPath": lambda bad: put(
        "domain.firmware.kernelBoot.container", {"image": "k:1", "kernelPath": "/k", "initrdPath": bad}
    ),
}
MAY_BE_EMPTY = {
    "volumes[0].containerDisk.path",
    "hostname",
    "priorityClassName",
    "domain.firmware.uuid",
    "domain.firmware.kernelBoot.container.kernelPath",
    "domain.firmware.kernelBoot.container.initrdPath",
}


@pytest.mark.parametrize("bad", ESCAPES)
@pytest.mark.parametrize("field", PATHS)
def test_no_path_or_name_leads_out_of_its_root(field: str, bad: str, context: AdmissionContext) -> None:
    if bad == "" and field in MAY_BE_EMPTY:
        return
    problems = admit("CREATE", VMIS, instance(PATHS[field](bad)), None, context).problems
    assert f"spec.{field}" in [problem.field for problem in problems], [str(p) for p in problems]


@pytest.mark.parametrize(
    "image", ["oci:/etc", "oci:../x", "oci-archive:a/../../b", "/etc/passwd", "-x", "a b", "a:..", "a@.."]
)
def test_images_stay_inside_the_store(image: str, context: AdmissionContext) -> None:
    problems = admit("CREATE", VMIS, instance(put("volumes.0.containerDisk.image", image)), None, context).problems
    assert [problem.field for problem in problems] == ["spec.volumes[0].containerDisk.image"]


@pytest.mark.parametrize(
    "image",
    [
        "demo",
        "localhost/polyvisor/demo-kernel:1",
        "host:5000/a/b@sha256:" + "a" * 64,
        "oci:dir:tag",
        "oci-archive:a.tar",
    ],
)
def test_good_images_are_accepted(image: str, context: AdmissionContext) -> None:
    assert not admit("CREATE", VMIS, instance(put("volumes.0.containerDisk.image", image)), None, context).problems


@pytest.mark.parametrize("value", [None, 3, "x", [], {}, [[]], [{}], {"a": {}}, True, 1.5, "\ud800", 10**400])
def test_malformed_values_give_no_traceback(value: Any, context: AdmissionContext) -> None:
    whole = instance(put("hypervisor", {"anyOf": ["alpha"]}))

    def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        keys = node.keys() if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        return [path] * bool(path) + [place for key in keys for place in places(node[key], (*path, key))]

    for place in places(whole):
        obj = instance(put("hypervisor", {"anyOf": ["alpha"]}))
        node: Any = obj
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = value
        admit("CREATE", VMIS, obj, None, context)
        admit("UPDATE", VMIS, obj, instance(), context)
        admit("CREATE", VMS, obj, None, context)
        admit("UPDATE", VMS, machine(), obj, context)
