"""``addvolume`` and ``removevolume``: disks of a machine that come and go while it runs.

On an instance they last as long as it does; on a VirtualMachine they are written into its template as well, so that
its next instance has them too. What is done to the domain follows from the instance's spec; this only changes that.
"""

from __future__ import annotations

import copy
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from polyvisor.api import AddVolumeOptions
from polyvisor.api.checking import check_spec
from polyvisor.api.reading import nested, read_status
from polyvisor.api.resources import VMIS, VMS, Resource
from polyvisor.api.volumes import hotpluggable
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.verdict import hotplug_buses
from polyvisor.kube.client import KubeClient
from polyvisor.kube.errors import ApiError
from polyvisor.server import requests
from polyvisor.server.errors import Refusal, answering, conflict
from polyvisor.server.subresources_gate import check
from polyvisor.server.subresources_machines import VMI, Machines, body_of, is_dry, require_running

Obj = dict[str, Any]
ATTEMPTS = 5


class Volumes:
    """The handlers."""

    def __init__(self, client: KubeClient, machines: Machines, drivers: DriverRegistry) -> None:
        self._client = client
        self._machines = machines
        self._drivers = drivers

    def routes(self, vm: str, vmi: str) -> list[BaseRoute]:
        """Return the routes below those of a VirtualMachine and of an instance."""
        return [
            Route(f"{base}/{name}", answering(handler), methods=["PUT"])
            for base, handlers in (
                (vm, {"addvolume": self._add_to_vm, "removevolume": self._remove_from_vm}),
                (vmi, {"addvolume": self._add_to_vmi, "removevolume": self._remove_from_vmi}),
            )
            for name, handler in handlers.items()
        ]

    async def _add_to_vmi(self, request: Request) -> Response:
        options, dry = await self._options(request)
        namespace, name = _place(request)
        vmi = await self._instance(namespace, name, "addvolume")
        require_running(vmi)
        _not_leaving(vmi, options["name"])
        await self._change(VMIS, namespace, name, lambda spec: _added(spec, options, VMI, name), dry)
        return Response(status_code=202)

    async def _remove_from_vmi(self, request: Request) -> Response:
        volume, dry = await self._name(request)
        namespace, name = _place(request)
        vmi = await self._instance(namespace, name, "removevolume")
        require_running(vmi)
        await self._change(VMIS, namespace, name, lambda spec: _removed(spec, volume, VMI, name), dry)
        return Response(status_code=202)

    async def _add_to_vm(self, request: Request) -> Response:
        options, dry = await self._options(request)
        namespace, name = _place(request)
        vmi = await self._running(namespace, name, "addvolume")
        if vmi is not None:
            _not_leaving(vmi, options["name"])
        await self._change(VMS, namespace, name, lambda spec: _added(spec, options, requests.VM, name), dry)
        if vmi is not None:
            await self._change(VMIS, namespace, name, lambda spec: _added(spec, options, VMI, name, again=True), dry)
        return Response(status_code=202)

    async def _remove_from_vm(self, request: Request) -> Response:
        volume, dry = await self._name(request)
        namespace, name = _place(request)
        vmi = await self._running(namespace, name, "removevolume")
        volumes = vmi["spec"].get("volumes") or [] if vmi is not None else []
        there = any(volume in (one["name"], _claim(one)) for one in volumes)
        await self._change(VMS, namespace, name, lambda spec: _removed(spec, volume, requests.VM, name, there), dry)
        if there:
            await self._change(VMIS, namespace, name, lambda spec: _removed(spec, volume, VMI, name, True), dry)
        return Response(status_code=202)

    async def _instance(self, namespace: str, name: str, action: str) -> Obj:
        vmi = await self._machines.existing(namespace, name)
        check(self._drivers, vmi, action)
        return vmi

    async def _running(self, namespace: str, name: str, action: str) -> Obj | None:
        """Return a VirtualMachine's instance if it runs."""
        await self._machines.vm(namespace, name)
        vmi = await self._machines.vmi(namespace, name)
        if vmi is None or requests.is_final(vmi):
            return None
        check(self._drivers, vmi, action)
        return vmi

    async def _change(self, resource: Resource, namespace: str, name: str, change: Any, dry: bool) -> None:
        """Change the spec that describes the machine, whoever else changes the object meanwhile."""
        way = "/spec/template/spec" if resource == VMS else "/spec"
        for _ in range(ATTEMPTS):
            obj = await self._client.get(resource, name, namespace)
            old = obj["spec"]["template"]["spec"] if resource == VMS else obj["spec"]
            new = change(copy.deepcopy(old))
            if new == old:
                return
            patch = [
                {"op": "test", "path": "/metadata/resourceVersion", "value": obj["metadata"]["resourceVersion"]},
                {"op": "add", "path": f"{way}/volumes", "value": new.get("volumes") or []},
                {"op": "add", "path": f"{way}/domain/devices/disks", "value": new["domain"]["devices"]["disks"]},
            ]
            try:
                await self._client.patch(resource, name, patch, namespace, patch_type="json", dry_run=dry)
                return
            except ApiError as error:
                if not error.conflict and "test" not in error.message:
                    raise
        raise conflict(resource.singular, name, "the object was changed by others at the same time; try again")

    async def _options(self, request: Request) -> tuple[Obj, bool]:
        body = await body_of(request)
        for key, what in (("name", "name to be set"), ("disk", "disk to not be nil")):
            if not body.get(key):
                raise Refusal(400, f"AddVolumeOptions requires {what}")
        if not body.get("volumeSource"):
            raise Refusal(400, "AddVolumeOptions requires VolumeSource to not be nil")
        if isinstance(body["disk"], dict):
            body["disk"]["name"] = body["name"]
        if problems := check_spec(AddVolumeOptions, body, ""):
            causes = [{"field": problem.field, "message": problem.message} for problem in problems]
            raise Refusal(400, "; ".join(map(str, problems))[:1000], {"causes": causes})
        sources = [kind for kind in ("persistentVolumeClaim", "dataVolume") if body["volumeSource"].get(kind)]
        if len(sources) != 1:
            raise Refusal(400, "volumeSource: give one of persistentVolumeClaim, dataVolume")
        disk = body["disk"]
        if disk.get("cdrom") is not None or disk.get("lun") is not None:
            raise Refusal(400, "disk: only a target of kind disk can be attached while a machine runs")
        target = disk.setdefault("disk", {})
        buses = hotplug_buses(self._drivers)  # that of the machine's own driver is admission's to check
        if not buses:
            raise Refusal(400, "disk: no driver attaches disks while a machine runs")
        if target.setdefault("bus", buses[0]) not in buses:
            raise Refusal(400, f"disk.disk.bus: found {target['bus']!r}, accepted: {', '.join(buses)}")
        return body, is_dry(body)

    async def _name(self, request: Request) -> tuple[str, bool]:
        body = await body_of(request)
        if not body.get("name") or not isinstance(body["name"], str):
            raise Refusal(400, "RemoveVolumeOptions requires name to be set")
        return body["name"], is_dry(body)


def _place(request: Request) -> tuple[str, str]:
    return str(request.path_params["namespace"]), str(request.path_params["name"])


def _not_leaving(vmi: Obj, volume: str) -> None:
    """Refuse a name that a disk still has which the guest was asked to let go of: it would be taken for the new one."""
    told = read_status(vmi).get("volumeStatus") or []
    if any(entry.get("name") == volume and entry.get("phase") == "Detaching" for entry in told):
        message = f"Unable to add volume [{volume}] because a volume with that name is still being removed"
        raise conflict(VMI, vmi["metadata"]["name"], message)


def _claim(volume: Obj) -> str:
    """Return the name of the claim or DataVolume behind a volume, empty for other volumes."""
    source = volume.get("dataVolume") or {}
    return str(source.get("name") or nested(volume, "persistentVolumeClaim").get("claimName") or "")


def _added(spec: Obj, options: Obj, kind: str, machine: str, again: bool = False) -> Obj:
    name = options["name"]
    source = {key: {**value, "hotpluggable": True} for key, value in options["volumeSource"].items() if value}
    volume = {"name": name, **source}
    volumes = spec.setdefault("volumes", [])
    disks = spec.setdefault("domain", {}).setdefault("devices", {}).setdefault("disks", [])
    if again and volume in volumes:
        return spec
    if any(one["name"] == name for one in [*volumes, *disks]):
        raise conflict(kind, machine, f"Unable to add volume [{name}] because volume with that name already exists")
    claim = _claim(volume)
    if any(_claim(one) == claim for one in volumes):
        raise conflict(kind, machine, f"Unable to add volume source [{claim}] because it already exists")
    volumes.append(volume)
    disks.append(options["disk"])
    return spec


def _removed(spec: Obj, name: str, kind: str, machine: str, again: bool = False) -> Obj:
    found = next((one for one in spec.get("volumes") or [] if name in (one["name"], _claim(one))), None)
    if found is None:
        if again:
            return spec
        raise conflict(kind, machine, f"Unable to remove volume [{name}] because it does not exist")
    if not hotpluggable(found):
        raise conflict(kind, machine, f"Unable to remove volume [{name}] because it is not hotpluggable")
    name = found["name"]
    spec["volumes"] = [one for one in spec["volumes"] if one["name"] != name]
    devices = spec["domain"]["devices"]
    devices["disks"] = [one for one in devices.get("disks") or [] if one["name"] != name]
    return spec
