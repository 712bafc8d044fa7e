"""What cannot be undercut: a Pod of one container that does nothing, and ``virsh create`` of a machine like ours."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.cluster.sightings import POD_GONE, POD_STEPS, Sightings, now
from bench.start import daemon, virsh
from polyvisor.api.resources import PODS
from polyvisor.kube import KubeClient

Obj = dict[str, Any]
FLOOR = """<domain type="qemu"><name>floor</name><memory unit="MiB">64</memory><vcpu>1</vcpu>
<os><type arch="x86_64" machine="q35">hvm</type></os><features><acpi/></features>
<devices><console type="pty"/><memballoon model="none"/></devices></domain>"""
"""The machine with firmware alone; a machine in a launcher Pod has a network interface besides, whose tap device no
host outside has."""


async def bare_pod(client: KubeClient, seen: Sightings, namespace: str, name: str, image: str) -> float:
    """Return the seconds from a Pod's POST until its container was seen running; the node has its image."""
    begin = now()
    await client.create(PODS, pod(name, namespace, image))
    seconds = await seen.until(name, POD_STEPS[-1]) - begin
    await client.delete(PODS, name, namespace, grace_period_seconds=0)
    await seen.until(name, POD_GONE)
    return seconds


def pod(name: str, namespace: str, image: str) -> Obj:
    """Return a Pod whose container sleeps."""
    container = {"name": "sleeper", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "1000"]}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


@contextmanager
def bare_machines() -> Iterator[Callable[[], float]]:
    """Give what returns the seconds of one ``virsh create``, by a daemon that runs already and has probed QEMU."""
    with tempfile.TemporaryDirectory(prefix="pvf", dir="/tmp") as name:
        folder = Path(name)
        xml = folder / "floor.xml"
        xml.write_text(FLOOR)
        with daemon(folder / "d") as socket:

            def create() -> float:
                begin = time.perf_counter()
                virsh("qemu", socket, "create", xml)
                seconds = time.perf_counter() - begin
                virsh("qemu", socket, "destroy", "floor")
                return seconds

            create()
            yield create
