"""Probes drivers in the launchers' images, and hands what a probe learned to launchers of the same image.

Beside the agent its Pod has a container ``launcher-DRIVER`` of each launcher image, which does nothing. A probe runs
inside it (:mod:`.probe_inside`): so what a probe proves is what users get, and the agent's own image needs no
hypervisor. libvirt's answers to "what can this hypervisor do" are kept by image and boot of the host.

What isn't obvious: a launcher is never believed. What it is handed comes from a probe of ours alone, and whether it
runs the same image is what the kubelet says of both containers. libvirt checks the answers again (dates of programs
and libraries), and asks anew if they are not of this very image. Whether a machine has its node's devices makes
another answer, so there is one probe with and one without them.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from polyvisor.agent.files import safepath
from polyvisor.agent.launchers.probe_inside import DEVICES
from polyvisor.agent.link import containers
from polyvisor.api import Obj, names
from polyvisor.api.reading import annotations_of, nested, read_status
from polyvisor.drivers.base import Driver, LauncherPlan, ProbeResult
from polyvisor.drivers.memory import read

PREFIX = "launcher-"
VIRT_TYPE_ANNOTATION = f"{names.HYPERVISOR_PREFIX}virt-type"
WAIT_SECONDS = 60.0
MAX_SEEDS, MAX_SEED_BYTES = 16, 4 * 1024 * 1024
BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Warm:
    """Where probes of one image left what they learned."""

    image: str
    with_devices: Path
    without: Path


def container_of(pod: Obj, name: str) -> Obj:
    """Return what the kubelet says of a container; empty if it says nothing."""
    found = read_status(pod).get("containerStatuses") or []
    return next((one for one in found if one.get("name") == name), {})


def _beside(driver: Driver, scratch: Path) -> ProbeResult:
    """Probe a driver that has no container: another package's may need nothing but what the agent's image has."""
    found = driver.probe(scratch)
    missing = f"virt-handler has no container {PREFIX}{driver.name} to probe it in"
    where = "configuration.hypervisors and handler.launchers of the installation's values say which it has"
    reasons = filter(None, (missing, where, found.reason))
    return found if found.available else ProbeResult(False, "; ".join(reasons))


class LauncherImages:
    """The launcher images of this node. ``own`` returns the agent's own Pod, once it has been seen."""

    def __init__(self, own: Callable[[], Obj | None]) -> None:
        self._own = own
        self._warm: dict[str, Warm] = {}
        self._running: set[subprocess.Popen[bytes]] = set()
        self._found: dict[str, tuple[list[object], ProbeResult]] = {}

    def probe(self, driver: Driver, scratch: Path) -> ProbeResult:
        """Probe a driver in its image. Blocking."""
        name = f"{PREFIX}{driver.name}"
        pod = self._await(lambda pod: True)
        if pod is None:
            return ProbeResult(False, "the agent's own Pod was not seen")
        if all(one["name"] != name for one in pod["spec"]["containers"]):
            return ProbeResult(False, driver.no_image) if driver.no_image else _beside(driver, scratch)
        pod = self._await(lambda pod: bool(containers.container_id(pod, name))) or pod
        identity = containers.container_id(pod, name)
        if not identity:
            waits = (container_of(pod, name).get("state") or {}).get("waiting") or {}
            reason = ": ".join(filter(None, (waits.get("reason"), waits.get("message"))))
            return ProbeResult(
                False, f"container {name} of the agent's Pod does not run: {reason or 'no reason given'}"
            )
        depends: list[object] = [identity, *((path, os.access(path, os.R_OK | os.W_OK)) for path in driver.watched)]
        before = self._found.get(driver.name)
        if before is not None and before[0] == depends:
            return before[1]
        image = str(container_of(pod, name).get("imageID") or "")
        warm = _places(scratch, image)
        for left in scratch.iterdir():
            if left not in (warm.with_devices, warm.without):
                safepath.remove_path(left)
        uid = str(pod["metadata"]["uid"])
        result = self._inside(driver, warm.with_devices, uid, identity, DEVICES)
        if result.available and _seeds(driver, warm.with_devices):
            if driver.emulated_virt_types:
                self._inside(driver, warm.without, uid, identity)
            self._warm[driver.name] = warm
        if result.available and not result.again:  # else the cause may be gone by the next time
            self._found[driver.name] = (depends, result)
        return result

    def _await(self, condition: Callable[[Obj], bool]) -> Obj | None:
        """Return the agent's Pod once a condition holds, None if it does not in time."""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            pod = self._own()
            if pod is not None and condition(pod):
                return pod
            time.sleep(0.2)  # on a thread, which the informer's events do not reach
        return None

    def _inside(self, driver: Driver, scratch: Path, uid: str, identity: str, *more: str) -> ProbeResult:
        scratch.mkdir(mode=0o700, exist_ok=True)
        try:
            pid = containers.first_of(uid, identity)
            with containers.held(pid, uid, identity) as process:
                command = [sys.executable, "-P", "-m", "polyvisor.agent.launchers.probe_inside", driver.name]
                command += [os.fspath(scratch), str(process), *more]
                pipe = subprocess.PIPE
                child = subprocess.Popen(
                    command, pass_fds=[process], stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe
                )
        except ProcessLookupError as error:
            return ProbeResult(False, f"container {PREFIX}{driver.name} of the agent's Pod has ended: {error}")
        self._running.add(child)
        told, said = child.communicate()
        self._running.discard(child)
        if child.returncode:
            words = said.decode(errors="replace").strip() or f"exit code {child.returncode}"
            return ProbeResult(False, f"the probe failed: {words[-400:]}", again=True)
        return read(json.loads(told))

    def cut_short(self, _: Path) -> None:
        """Have the probes that run end soon."""
        for child in list(self._running):
            child.terminate()

    def seeded(self, driver: Driver, pod: Obj, plan: LauncherPlan) -> LauncherPlan:
        """Return a launcher's plan with what was learned of its image, if its Pod runs one that was probed.

        As long as the kubelet does not say which image a Pod runs, one of the same name counts: libvirt compares what
        it is given with the programs that it finds, and learns anew where they differ.
        """
        warm = self._warm.get(driver.name)
        if warm is None or not self._runs(warm, pod, driver):
            return plan
        virt_type = annotations_of(pod).get(VIRT_TYPE_ANNOTATION, "")
        place = warm.without if virt_type in driver.emulated_virt_types else warm.with_devices
        return replace(plan, files={**plan.files, **_seeds(driver, place)})

    def _runs(self, warm: Warm, pod: Obj, driver: Driver) -> bool:
        if told := container_of(pod, names.COMPUTE_CONTAINER).get("imageID"):
            return bool(told == warm.image)
        image = image_of(pod, names.COMPUTE_CONTAINER)
        return bool(image) and image == image_of(self._own() or {}, f"{PREFIX}{driver.name}")


def image_of(pod: Obj, name: str) -> str:
    """Return which image a container is to run, by the Pod's spec; empty if there is no such container."""
    found = nested(pod, "spec").get("containers") or []
    return next((str(one.get("image") or "") for one in found if one.get("name") == name), "")


def _places(scratch: Path, image: str) -> Warm:
    key = hashlib.sha256(f"{image} {BOOT.read_text().strip()}".encode()).hexdigest()[:8]
    return Warm(image, scratch / key, scratch / f"{key}-")


def _seeds(driver: Driver, scratch: Path) -> dict[str, str]:
    """Return the files that a probe left for launchers, by their paths below a launcher's folder."""
    found: dict[str, str] = {}
    for relative, folder in driver.launcher(Path(names.LAUNCHER_FOLDER), scratch).seeds.items():
        for path in sorted(Path(folder).glob("*"))[:MAX_SEEDS]:
            if path.is_file() and path.stat().st_size <= MAX_SEED_BYTES:
                found[f"{relative}/{path.name}"] = path.read_text()
    return found
