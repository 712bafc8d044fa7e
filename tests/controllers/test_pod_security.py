"""Launcher Pods of QEMU machines by Kubernetes' Pod security standard ``restricted``, field by field.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from polyvisor.api import VirtualMachineInstanceSpec
from polyvisor.controllers.attachment_pod import build_attachment
from polyvisor.controllers.launcher_pod import build_pod
from polyvisor.drivers import registry
from polyvisor.placement import Placement

Obj = dict[str, Any]
KINDS = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
CLAIMS: Obj = {"disk": {"metadata": {"name": "disk"}, "spec": {"volumeMode": "Filesystem"}}}
PARTS: dict[str, Obj] = {
    "container disk": {"volume": {"containerDisk": {"image": "registry.example/disk:1"}}},
    "cloud-init": {"volume": {"cloudInitNoCloud": {"secretRef": {"name": "seed"}}}},
    "claim": {"volume": {"persistentVolumeClaim": {"claimName": "disk"}}},
    "texts": {"volume": {"configMap": {"name": "texts"}}},
    "service account": {"volume": {"serviceAccount": {"serviceAccountName": "worker"}}},
    "masquerade": {"interfaces": [{"name": "default", "masquerade": {}}]},
    "console log": {"logs": True},
}


def machine(*parts: str) -> Obj:
    devices: Obj = {"disks": []}
    spec: Obj = {"domain": {"memory": {"guest": "64Mi"}, "devices": devices}, "volumes": []}
    for part in parts:
        found = PARTS[part]
        if "volume" in found:
            name = part.replace(" ", "-")
            spec["volumes"].append({"name": name, **found["volume"]})
            devices["disks"].append({"name": name, "disk": {"bus": "virtio"}})
        if "interfaces" in found:
            devices["interfaces"] = found["interfaces"]
            spec["networks"] = [{"name": "default", "pod": {}}]
        if "logs" in found:
            devices["logSerialConsole"] = True
    return spec


def pod_of(spec: Obj, **annotations: str) -> Obj:
    driver = registry().get("qemu")
    assert driver is not None
    metadata = {"name": "one", "namespace": "default", "uid": "u", "annotations": annotations}
    vmi = {"metadata": metadata, "spec": spec}
    placement = Placement(driver, driver.virt_types[0], (), {})
    return dict(build_pod(vmi, VirtualMachineInstanceSpec.model_validate(spec), placement, {}, CLAIMS))


def violations(pod: Obj) -> Iterator[str]:
    """Give what of a Pod the standard forbids."""
    spec, whole = pod["spec"], pod["spec"].get("securityContext") or {}
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield field
    for volume in spec.get("volumes") or []:
        if not volume.keys() - {"name"} <= KINDS:
            yield f"volume {volume}"
    for container in [*spec["containers"], *(spec.get("initContainers") or [])]:
        own, name = container.get("securityContext") or {}, container["name"]
        capabilities = own.get("capabilities") or {}
        if own.get("privileged") or own.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: privileges"
        if "ALL" not in capabilities.get("drop", ()) or set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
            yield f"{name}: capabilities"
        if own.get("runAsNonRoot", whole.get("runAsNonRoot")) is not True or own.get("runAsUser") == 0:
            yield f"{name}: root"
        profile = own.get("seccompProfile") or whole.get("seccompProfile") or {}
        if profile.get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{name}: seccomp"
        if any(port.get("hostPort") for port in container.get("ports") or []) or own.get("procMount"):
            yield f"{name}: ports or /proc of the host"


@pytest.mark.parametrize("parts", [*([part] for part in PARTS), list(PARTS)], ids=" + ".join)
def test_a_qemu_machine_is_restricted(parts: list[str]) -> None:
    pod = pod_of(machine(*parts))
    assert list(violations(pod)) == []


def test_so_is_the_pod_of_claims_that_came_later() -> None:
    launcher = pod_of(machine("claim"))
    launcher["metadata"]["uid"] = "p"
    launcher["spec"]["nodeName"] = "n"
    assert list(violations(build_attachment(launcher, {"later": "disk"}, CLAIMS, {}))) == []


def test_what_is_forbidden_is_found() -> None:
    pod = pod_of(machine("container disk"))
    pod["spec"]["hostPID"] = True
    pod["spec"]["volumes"].append({"name": "host", "hostPath": {"path": "/"}})
    pod["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    del pod["spec"]["securityContext"]
    found = " ".join(violations(pod))
    for words in ("hostPID", "hostPath", "compute: privileges", "compute: capabilities", "compute: root", "seccomp"):
        assert words in found, words


@pytest.mark.parametrize(
    "name",
    [
        "container.apparmor.security.beta.kubernetes.io/compute",
        "container.seccomp.security.alpha.kubernetes.io/compute",
        "seccomp.security.alpha.kubernetes.io/pod",
        "io.kubernetes.cri-o.Devices",
        "cdi.k8s.io/disk",
    ],
)
def test_no_annotation_of_a_machine_loosens_its_pod(name: str) -> None:
    pod = pod_of(machine("container disk"), **{name: "unconfined", "team": "a"})
    assert name not in pod["metadata"]["annotations"]
    assert pod["metadata"]["annotations"]["team"] == "a"
