"""The images that an installation names are those that `make images` builds, in whichever registry."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from polyvisor.api import VirtualMachineInstanceSpec
from polyvisor.controllers import launcher_pod
from polyvisor.drivers import registry
from polyvisor.installation.render import assignment, manifests
from polyvisor.placement import Placement

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import images

BUILT = {images.reference(name) for name in images.recipes()}
ELSEWHERE = "registry.example/vm"


def named(*given: str) -> tuple[set[str], str]:
    """Return the images of the components, and where launchers' are."""
    found, launchers = set(), ""
    for obj in manifests("kubevirt", map(assignment, given)):
        if obj["kind"] in ("Deployment", "DaemonSet"):
            for container in obj["spec"]["template"]["spec"]["containers"]:
                found.add(container["image"])
                values = {one["name"]: one.get("value", "") for one in container.get("env", [])}
                launchers = values.get("LAUNCHER_IMAGES", launchers)
    return found, launchers


def test_the_charts_images_are_built() -> None:
    components, launchers = named()
    assert components
    assert components <= BUILT
    assert launchers == launcher_pod.LAUNCHER_IMAGES


@pytest.mark.parametrize("driver", [one.name for one in registry() if not one.no_image])
def test_a_drivers_launcher_is_built(driver: str) -> None:
    assert launcher_pod.launcher_image(driver) in BUILT
    assert launcher_pod.launcher_image(driver, "mine:1") == "mine:1"


def test_a_registry_holds_for_components_and_launchers(monkeypatch: pytest.MonkeyPatch) -> None:
    components, launchers = named(f"image.registry={ELSEWHERE}", "image.tag=v9")
    ours = (f"{ELSEWHERE}/virt-", f"{ELSEWHERE}/launcher-")
    assert all(image.startswith(ours) and image.endswith(":v9") for image in components)
    monkeypatch.setattr(launcher_pod, "LAUNCHER_IMAGES", launchers)
    assert launcher_pod.launcher_image("qemu") == f"{ELSEWHERE}/launcher-qemu:v9"


def test_how_images_are_pulled_holds_for_launchers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("image.pullPolicy=Always", "image.pullSecrets=[{name: registry}]")
    (controller,) = [obj for obj in manifests("kubevirt", map(assignment, given)) if name(obj) == "virt-controller"]
    (container,) = controller["spec"]["template"]["spec"]["containers"]
    said = {one["name"]: one.get("value") for one in container["env"]}
    assert said["LAUNCHER_PULL_POLICY"] == "Always"
    monkeypatch.setattr(launcher_pod, "PULL_POLICY", said["LAUNCHER_PULL_POLICY"])
    monkeypatch.setattr(launcher_pod, "PULL_SECRETS", json.loads(said["LAUNCHER_PULL_SECRETS"]))
    users = {"image": "of/the:user", "imagePullPolicy": "Never", "imagePullSecret": "mine"}
    spec: dict[str, Any] = {
        "domain": {"devices": {}, "memory": {"guest": "64Mi"}},
        "volumes": [{"name": "root", "containerDisk": users}],
    }
    vmi = {"metadata": {"name": "one", "namespace": "default", "uid": "u"}, "spec": spec}
    driver = registry().get("qemu")
    placement = Placement(driver, driver.virt_types[0], (), {})
    pod = launcher_pod.build_pod(vmi, VirtualMachineInstanceSpec.model_validate(spec), placement, {}, {})["spec"]
    every = [*pod["containers"], *pod.get("initContainers", [])]
    ours = launcher_pod.launcher_image("qemu")
    assert {one["imagePullPolicy"] for one in every if one["image"] == ours} == {"Always"}
    assert {one["imagePullPolicy"] for one in every if one["image"] == users["image"]} == {"Never"}
    assert pod["imagePullSecrets"] == [{"name": "mine"}, {"name": "registry"}]
    # what the KubeVirt object says goes before the installation's settings
    for settings in (
        {"imagePullPolicy": "Never", "imagePullSecrets": [{"name": "other"}]},
        {"imagePullPolicy": "Always", "configuration": {"imagePullPolicy": "Never"}, "imagePullSecrets": []},
    ):
        parsed = VirtualMachineInstanceSpec.model_validate(spec)
        pod = launcher_pod.build_pod(vmi, parsed, placement, settings, {})["spec"]
        every = [*pod["containers"], *pod.get("initContainers", [])]
        assert {one["imagePullPolicy"] for one in every if one["image"] == ours} == {"Never"}
        assert pod["imagePullSecrets"] == [{"name": "mine"}, *settings["imagePullSecrets"]]


def name(obj: dict[str, Any]) -> str:
    """Return a Deployment's name; of others nothing."""
    return str(obj["metadata"]["name"]) if obj["kind"] == "Deployment" else ""
