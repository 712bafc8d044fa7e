"""The images that an installation names are those that `make images` builds, in whichever registry."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from polyvisor.controllers import launcher_pod
from polyvisor.drivers import registry
from polyvisor.installation.render import assignment, manifests

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
    assert all(image.startswith(f"{ELSEWHERE}/virt-") and image.endswith(":v9") for image in components)
    monkeypatch.setattr(launcher_pod, "LAUNCHER_IMAGES", launchers)
    assert launcher_pod.launcher_image("qemu") == f"{ELSEWHERE}/launcher-qemu:v9"
