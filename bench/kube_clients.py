"""Compare Python's Kubernetes clients as a controller would use them; print a Markdown table.

    python bench/kube_clients.py

An embedded API server is started over TLS on loopback. Each client runs in a process of its own: import, list 100
machines of a custom kind, read one 300 times, then small trials: a watch, a watch from a version that is gone, a
server-side apply, an invalid object. A cell of a trial holds what was seen, not what a document promises.
Needs, beside Polyvisor: pip install kubernetes_asyncio kr8s lightkube
"""

# ruff: noqa: T201
from __future__ import annotations

import asyncio
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

NAMESPACE = "default"
MACHINES = 100
READS = 300
GROUP, VERSION, PLURAL, KIND = "kubevirt.io", "v1", "virtualmachines", "VirtualMachine"
ROWS = ("import ms", "RSS MiB", "get p50 ms", "get p99 ms", "objects", "watch", "410", "apply", "causes of 422")
Trials = dict[str, Callable[[], Awaitable[Any]]]


def machine(name: str, spec: Any = None) -> dict[str, Any]:
    """Return a VirtualMachine, halted unless a spec is given."""
    template = {"spec": {"domain": {"devices": {}}}}
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"runStrategy": "Halted", "template": template} if spec is None else spec,
    }


async def use_polyvisor(kubeconfig: str) -> Trials:
    """Set up our own client."""
    from polyvisor.api.resources import VMS
    from polyvisor.kube import KubeClient

    client = KubeClient.from_kubeconfig(kubeconfig)

    async def watch(version: str) -> str:
        async with aclosing(client.watch(VMS, NAMESPACE, resource_version=version, timeout_seconds=5)) as events:
            async for event in events:
                return event.type
        return "nothing"

    return {
        "list": lambda: client.list(VMS, NAMESPACE),
        "get": lambda: client.get(VMS, "m0", NAMESPACE),
        "watch": lambda: watch("0"),
        "410": lambda: watch("1"),
        "apply": lambda: client.apply(VMS, machine("m0"), field_manager="bench", force=True),
        "causes of 422": lambda: client.create(VMS, machine("Bad_Name")),
    }


async def use_kubernetes_asyncio(kubeconfig: str) -> Trials:
    """Set up kubernetes_asyncio and its dynamic client."""
    from kubernetes_asyncio import config
    from kubernetes_asyncio.client import ApiClient
    from kubernetes_asyncio.dynamic import DynamicClient

    await config.load_kube_config(kubeconfig)
    client = await DynamicClient(ApiClient())
    vms = await client.resources.get(api_version=f"{GROUP}/{VERSION}", kind=KIND)

    async def watch(version: str) -> str:
        async for event in client.watch(vms, namespace=NAMESPACE, resource_version=version, timeout=5):
            return str(event["type"])
        return "nothing"

    return {
        "list": lambda: client.get(vms, namespace=NAMESPACE),
        "get": lambda: client.get(vms, name="m0", namespace=NAMESPACE),
        "watch": lambda: watch("0"),
        "410": lambda: watch("1"),
        "apply": lambda: client.server_side_apply(
            vms, body=machine("m0"), name="m0", namespace=NAMESPACE, field_manager="bench", force_conflicts=True
        ),
        "causes of 422": lambda: client.create(vms, body=machine("Bad_Name"), namespace=NAMESPACE),
    }


async def use_kr8s(kubeconfig: str) -> Trials:
    """Set up kr8s."""
    import kr8s.asyncio
    from kr8s.asyncio.objects import new_class

    vm = new_class(KIND, f"{GROUP}/{VERSION}", namespaced=True, plural=PLURAL)
    api = await kr8s.asyncio.api(kubeconfig=kubeconfig)

    async def watch(version: str) -> str:
        async for type_, _ in api.async_watch(vm, namespace=NAMESPACE, since=version):
            return str(type_)
        return "nothing"

    async def create() -> None:
        await (await vm(machine("Bad_Name"), api=api)).create()

    async def listed() -> list[Any]:
        return [found async for found in api.get(vm, namespace=NAMESPACE)]

    return {
        "list": listed,
        "get": lambda: vm.get("m0", namespace=NAMESPACE, api=api),
        "watch": lambda: watch("0"),
        "410": lambda: watch("1"),
        "causes of 422": create,
    }


async def use_lightkube(kubeconfig: str) -> Trials:
    """Set up lightkube."""
    from lightkube import AsyncClient, KubeConfig
    from lightkube.generic_resource import create_namespaced_resource

    vm = create_namespaced_resource(GROUP, VERSION, KIND, PLURAL)
    client = AsyncClient(config=KubeConfig.from_file(kubeconfig), field_manager="bench")

    async def watch(version: str) -> str:
        async for type_, _ in client.watch(vm, namespace=NAMESPACE, resource_version=version, server_timeout=5):
            return str(type_)
        return "nothing"

    async def listed() -> list[Any]:
        return [found async for found in client.list(vm, namespace=NAMESPACE)]

    return {
        "list": listed,
        "get": lambda: client.get(vm, "m0", namespace=NAMESPACE),
        "watch": lambda: watch("0"),
        "410": lambda: watch("1"),
        "apply": lambda: client.apply(vm(machine("m0")), force=True),
        "causes of 422": lambda: client.create(vm(machine("Bad_Name"))),
    }


CLIENTS = {
    "polyvisor.kube on httpx": ("from polyvisor.kube import EventRecorder, Informer, KubeClient", use_polyvisor),
    "kubernetes_asyncio": ("import kubernetes_asyncio.client, kubernetes_asyncio.dynamic", use_kubernetes_asyncio),
    "kr8s": ("import kr8s.asyncio, kr8s.asyncio.objects", use_kr8s),
    "lightkube": ("import lightkube, lightkube.generic_resource", use_lightkube),
}


async def trial(call: Callable[[], Awaitable[Any]] | None) -> str:
    """Make one call and say what came of it."""
    if call is None:
        return "not offered"
    try:
        async with asyncio.timeout(8):
            result = await call()
    except TimeoutError:
        return "hangs"
    except Exception as error:
        return explained(error)
    if getattr(result, "kind", "") == "Status":
        return "no error: the Status comes back as the object"
    return result if isinstance(result, str) else "yes"


def resident_mib() -> float:
    """Return the memory in use (the peak that getrusage gives counts the parent's before exec, too)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def explained(error: Exception) -> str:
    """Find the Status in whatever a client raises."""
    for name in ("status", "body", "response"):
        value = getattr(error, name, None)
        if isinstance(value, str | bytes):
            try:
                value = json.loads(value)
            except ValueError:
                continue
        if hasattr(value, "json"):
            value = value.json()
        if hasattr(value, "details"):
            value = {"code": value.code, "details": {"causes": getattr(value.details, "causes", None)}}
        if isinstance(value, dict) and "code" in value:
            causes = (value.get("details") or {}).get("causes")
            return f"raises {value['code']}" + (", with causes" if causes else "")
    code = getattr(error, "code", None) or getattr(error, "status", None)
    return f"raises {type(error).__name__}" + (f" {code}" if code else "")


async def measure(name: str, kubeconfig: str) -> dict[str, str]:
    """Measure one client; runs in a process of its own."""
    statement, use = CLIENTS[name]
    began = time.perf_counter()
    exec(statement, {})
    row = {"import ms": f"{(time.perf_counter() - began) * 1000:.0f}"}
    trials = await use(kubeconfig)
    listed = await trials["list"]()
    items = listed if isinstance(listed, list) else listed.items
    assert len(items) == MACHINES
    row["RSS MiB"] = f"{resident_mib():.1f}"
    row["objects"] = type(items[0]).__name__
    times = []
    for _ in range(READS):
        began = time.perf_counter()
        await trials["get"]()
        times.append((time.perf_counter() - began) * 1000)
    row["get p50 ms"] = f"{statistics.median(times):.2f}"
    row["get p99 ms"] = f"{sorted(times)[int(READS * 0.99)]:.2f}"
    for what in ("watch", "410", "apply", "causes of 422"):
        row[what] = await trial(trials.get(what))
    return row


async def main() -> None:
    """Start the server and measure all clients, one after the other."""
    from polyvisor.api.resources import VMS
    from polyvisor.kube import KubeClient
    from polyvisor.process.serving import serve
    from polyvisor.standalone.apiserver import Store, create_app
    from polyvisor.standalone.identity import ensure_identity, write_kubeconfig

    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of each line sent to a client that has left
    with tempfile.TemporaryDirectory(prefix="pvk") as folder:
        root = Path(folder)
        identity = ensure_identity(root)
        async with (
            Store(root / "db.sqlite").opened() as store,
            serve(create_app(store, [identity.token]), cert=identity.cert, key=identity.key) as server,
        ):
            write_kubeconfig(root / "kubeconfig", identity, server.port)
            async with KubeClient.from_kubeconfig(root / "kubeconfig") as client:
                for number in range(MACHINES):
                    await client.create(VMS, machine(f"m{number}"))
            store.compact(keep=0, seconds=-1)
            rows = {name: await in_process(name, root / "kubeconfig") for name in CLIENTS}
    print("| client | " + " | ".join(ROWS) + " |")
    print("|---" * (len(ROWS) + 1) + "|")
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(row.get(column, "?") for column in ROWS) + " |")


async def in_process(name: str, kubeconfig: Path) -> dict[str, str]:
    """Measure one client in a fresh process."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, __file__, name, str(kubeconfig), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await child.communicate()
    if child.returncode:
        return {"import ms": "failed: " + err.decode().strip().rpartition("\n")[2][:200]}
    row: dict[str, str] = json.loads(out.decode().strip().rpartition("\n")[2])
    return row


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(asyncio.run(measure(sys.argv[1], sys.argv[2]))))
    else:
        asyncio.run(main())
