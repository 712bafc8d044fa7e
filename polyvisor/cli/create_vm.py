"""``create vm``: a manifest from flags, with virtctl's flags and results; nothing is sent anywhere.

``key:value`` lists (``src:docker.io/x:1,bootorder:1``) are read up to the first colon of each item, so that image names
keep theirs; a comma separates items.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polyvisor.api.metadata import dns_subdomain_error
from polyvisor.api.names import RunStrategy
from polyvisor.api.quantity import parse_quantity
from polyvisor.cli.errors import CliError, ExitCode

Obj = dict[str, Any]
ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
MEMORY = "512Mi"
GRACE_SECONDS = 180
CLOUD_INIT = {"nocloud": "cloudInitNoCloud", "configdrive": "cloudInitConfigDrive"}
SEED = "cloudinitdisk"
INSTANCETYPES = {
    "instancetype": "VirtualMachineInstancetype",
    "virtualmachineinstancetype": "VirtualMachineInstancetype",
    "clusterinstancetype": "VirtualMachineClusterInstancetype",
    "virtualmachineclusterinstancetype": "VirtualMachineClusterInstancetype",
}
PREFERENCES = {
    "preference": "VirtualMachinePreference",
    "virtualmachinepreference": "VirtualMachinePreference",
    "clusterpreference": "VirtualMachineClusterPreference",
    "virtualmachineclusterpreference": "VirtualMachineClusterPreference",
}
IMPORTS: Mapping[str, tuple[str, ...]] = {
    "blank": (),
    "http": ("url",),
    "registry": ("url",),
    "s3": ("url",),
    "gcs": ("url",),
    "pvc": ("src",),
    "snapshot": ("src",),
    "ds": ("src",),
}
"""Type of ``--volume-import`` -> what it has to name."""


@dataclass
class Wanted:
    """What the flags said."""

    name: str = ""
    namespace: str = ""
    driver: str = ""
    run_strategy: str = "Always"
    grace: int = GRACE_SECONDS
    memory: str = ""
    instancetype: str = ""
    infer_instancetype: bool | None = None
    infer_instancetype_from: str = ""
    preference: str = ""
    infer_preference: bool | None = None
    infer_preference_from: str = ""
    containerdisks: Sequence[str] = ()
    pvcs: Sequence[str] = ()
    imports: Sequence[str] = ()
    sysprep: str = ""
    user: str = ""
    password_file: str = ""
    ssh_keys: Sequence[str] = ()
    ga_manage_ssh: bool = False
    access_creds: Sequence[str] = ()
    cloud_init: str = ""
    user_data: str = ""
    network_data: str = ""


@dataclass
class _Machine:
    """The parts of the manifest while they are gathered."""

    name: str
    volumes: list[Obj] = field(default_factory=list)
    disks: list[Obj] = field(default_factory=list)
    templates: list[Obj] = field(default_factory=list)
    orders: dict[int, str] = field(default_factory=dict)

    def add(self, flag: str, name: str, source: Obj, order: str, kind: str = "disk") -> None:
        """Add a volume; it gets a disk of its own only where there is something to say of it."""
        if error := dns_subdomain_error(name):
            raise wrong(flag, f"{name!r} cannot be the name of a volume: {error}")
        if any(volume["name"] == name for volume in self.volumes):
            raise wrong(flag, f"there is a volume {name!r} already")
        self.volumes.append({"name": name, **source})
        disk: Obj = {"name": name, kind: {}}
        if order:
            number = int(order) if order.isascii() and order.isdigit() else 0
            if number < 1:
                raise wrong(flag, f"bootorder {order!r}: it starts at 1")
            if number in self.orders:
                raise wrong(flag, f"bootorder {number} is that of {self.orders[number]!r} already")
            self.orders[number] = name
            disk["bootOrder"] = number
        if order or kind != "disk":
            self.disks.append(disk)


def manifest(wanted: Wanted) -> Obj:
    """Return the VirtualMachine."""
    name = wanted.name or "vm-" + "".join(secrets.choice(ALPHABET) for _ in range(5))
    if error := dns_subdomain_error(name):
        raise wrong("name", error)
    if wanted.run_strategy not in list(RunStrategy):
        raise wrong("run-strategy", f"{wanted.run_strategy!r} is not valid; accepted: {', '.join(RunStrategy)}")
    machine = _Machine(name)
    _volumes(machine, wanted)
    _cloud_init(machine, wanted)
    domain: Obj = {"devices": {"disks": machine.disks} if machine.disks else {}, "resources": {}}
    spec: Obj = {"runStrategy": wanted.run_strategy}
    inner: Obj = {"domain": domain, "terminationGracePeriodSeconds": wanted.grace}
    _size(spec, domain, machine, wanted)
    if wanted.driver:
        inner["hypervisor"] = {"driver": wanted.driver}
    if machine.volumes:
        inner["volumes"] = machine.volumes
    if wanted.access_creds:
        inner["accessCredentials"] = [_credential(text, wanted) for text in wanted.access_creds]
    if machine.templates:
        spec["dataVolumeTemplates"] = machine.templates
    spec["template"] = {"metadata": {}, "spec": inner}
    metadata = {"name": name, **({"namespace": wanted.namespace} if wanted.namespace else {})}
    return {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": metadata, "spec": spec}


def _volumes(machine: _Machine, wanted: Wanted) -> None:
    for number, text in enumerate(wanted.containerdisks):
        given = pairs("volume-containerdisk", text, ("name", "src", "bootorder"), ("src",))
        name = given.get("name") or f"{machine.name}-containerdisk-{number}"
        machine.add(
            "volume-containerdisk", name, {"containerDisk": {"image": given["src"]}}, given.get("bootorder", "")
        )
    for text in wanted.pvcs:
        given = pairs("volume-pvc", text, ("name", "src", "bootorder"), ("src",))
        claim = given["src"].rpartition("/")
        if claim[0] and claim[0] != (wanted.namespace or claim[0]):
            raise wrong("volume-pvc", f"the claim {given['src']} is in another namespace than the machine")
        source: Obj = {"persistentVolumeClaim": {"claimName": claim[2]}}
        machine.add("volume-pvc", given.get("name") or claim[2], source, given.get("bootorder", ""))
    for number, text in enumerate(wanted.imports):
        _import(machine, number, text)
    if wanted.sysprep:
        given = pairs("volume-sysprep", wanted.sysprep, ("src", "type"), ("src",))
        kind = given.get("type", "configmap").lower()
        if kind not in ("configmap", "secret"):
            raise wrong("volume-sysprep", f"type {kind!r}: configMap or secret")
        source = {"sysprep": {"configMap" if kind == "configmap" else "secret": {"name": given["src"]}}}
        machine.add("volume-sysprep", "sysprepdisk", source, "", "cdrom")


def _import(machine: _Machine, number: int, text: str) -> None:
    flag = "volume-import"
    known = ("type", "size", "name", "bootorder", "src", "url", "secretref", "certconfigmap")
    given = pairs(flag, text, known, ("type",))
    kind = given["type"].lower()
    if kind not in IMPORTS:
        raise wrong(flag, f"type {kind!r}: one of {', '.join(IMPORTS)}")
    for key in IMPORTS[kind]:
        if not given.get(key):
            raise wrong(flag, f"type {kind} needs {key}")
    if kind not in ("pvc", "snapshot", "ds") and not given.get("size"):
        raise wrong(flag, f"type {kind} needs size")
    name = given.get("name") or f"{machine.name}-imported-volume-{number}"
    namespace, _, source_name = given.get("src", "").rpartition("/")
    source: Obj = {"name": source_name, **({"namespace": namespace} if namespace else {})}
    storage: Obj = {"resources": {"requests": {"storage": quantity(flag, given["size"])}}} if given.get("size") else {}
    spec: Obj = {"storage": storage}
    if kind == "ds":
        spec["sourceRef"] = {"kind": "DataSource", **source}
    elif IMPORTS[kind] == ("url",):
        extra = {"secretRef": given.get("secretref"), "certConfigMap": given.get("certconfigmap")}
        spec["source"] = {kind: {"url": given["url"], **{key: value for key, value in extra.items() if value}}}
    else:
        spec["source"] = {kind: source if kind != "blank" else {}}
    machine.templates.append({"metadata": {"name": name}, "spec": spec})
    machine.add(flag, name, {"dataVolume": {"name": name}}, given.get("bootorder", ""))


def _size(spec: Obj, domain: Obj, machine: _Machine, wanted: Wanted) -> None:
    """Write memory or instance type, and preference."""
    if wanted.instancetype and (wanted.infer_instancetype or wanted.infer_instancetype_from):
        raise wrong("instancetype", "it is given, so it cannot be inferred as well")
    if wanted.memory and (wanted.instancetype or wanted.infer_instancetype or wanted.infer_instancetype_from):
        raise wrong("memory", "an instance type brings its own")
    for kind, kinds, given, infer, source in (
        (
            "instancetype",
            INSTANCETYPES,
            wanted.instancetype,
            wanted.infer_instancetype,
            wanted.infer_instancetype_from,
        ),
        ("preference", PREFERENCES, wanted.preference, wanted.infer_preference, wanted.infer_preference_from),
    ):
        if given:
            word, _, name = given.rpartition("/")
            if word and word.lower() not in kinds:
                raise wrong(kind, f"{word!r} is not valid; accepted: {', '.join(kinds)}")
            spec[kind] = {"name": name, **({"kind": kinds[word.lower()]} if word else {})}
        elif infer or source:
            volume = source or next((volume["name"] for volume in machine.volumes), "")
            if not any(each["name"] == volume for each in machine.volumes):
                raise wrong(f"infer-{kind}", f"there is no volume {volume!r} to infer it from")
            spec[kind] = {"inferFromVolume": volume}
    if "instancetype" not in spec:
        domain["memory"] = {"guest": quantity("memory", wanted.memory or MEMORY)}


def _cloud_init(machine: _Machine, wanted: Wanted) -> None:
    kind = wanted.cloud_init or "nocloud"
    asked = wanted.user or wanted.password_file or wanted.ssh_keys or wanted.ga_manage_ssh
    if kind == "none" or not (asked or wanted.user_data or wanted.network_data or wanted.cloud_init):
        if asked or wanted.user_data or wanted.network_data:
            raise wrong("cloud-init", "none is wanted, but there is something to tell the guest")
        return
    if kind not in CLOUD_INIT:
        raise wrong("cloud-init", f"{kind!r}: none, {', '.join(CLOUD_INIT)}")
    if wanted.user_data and asked:
        raise wrong("cloud-init-user-data", "user, password and keys cannot be added to data that is given whole")
    source: Obj = {}
    if wanted.user_data:
        source["userDataBase64"] = _base64("cloud-init-user-data", wanted.user_data)
    else:
        source["userData"] = _user_data(wanted)
    if wanted.network_data:
        source["networkDataBase64"] = _base64("cloud-init-network-data", wanted.network_data)
    machine.add("cloud-init", SEED, {CLOUD_INIT[kind]: source}, "")


def _user_data(wanted: Wanted) -> str:
    import yaml

    data: Obj = {}
    if wanted.user:
        data["user"] = wanted.user
    if wanted.password_file:
        try:
            data["password"] = Path(wanted.password_file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise wrong("password-file", f"{wanted.password_file} cannot be read: {error}") from error
        data["chpasswd"] = {"expire": False}
    if wanted.ssh_keys:
        data["ssh_authorized_keys"] = list(wanted.ssh_keys)
    if wanted.ga_manage_ssh:
        data["runcmd"] = [["setsebool", "-P", "virt_qemu_ga_manage_ssh", "on"]]
    return "#cloud-config\n" + (yaml.safe_dump(data, sort_keys=False, width=10_000) if data else "")


def _credential(text: str, wanted: Wanted) -> Obj:
    flag = "access-cred"
    given = pairs(flag, text, ("type", "src", "method", "user"), ("src",))
    kind, method = given.get("type", "ssh").lower(), given.get("method", "").lower()
    source = {"secret": {"secretName": given["src"]}}
    if kind == "password":
        if method not in ("", "ga"):
            raise wrong(flag, "a password goes through the guest's agent: method ga")
        return {"userPassword": {"source": source, "propagationMethod": {"qemuGuestAgent": {}}}}
    if kind != "ssh":
        raise wrong(flag, f"type {kind!r}: ssh or password")
    ways: dict[str, Obj] = {"nocloud": {"noCloud": {}}, "configdrive": {"configDrive": {}}}
    if method in ("", "ga"):
        user = given.get("user") or wanted.user
        if not user:
            raise wrong(flag, "keys that go through the guest's agent need a user")
        way: Obj = {"qemuGuestAgent": {"users": [user]}}
    elif method in ways:
        way = ways[method]
    else:
        raise wrong(flag, f"method {method!r}: ga, nocloud or configdrive")
    return {"sshPublicKey": {"source": source, "propagationMethod": way}}


def pairs(flag: str, text: str, known: Sequence[str], required: Sequence[str]) -> dict[str, str]:
    """Read the value of a flag that is a list of KEY:VALUE."""
    found: dict[str, str] = {}
    for item in text.split(","):
        key, colon, value = item.partition(":")
        key = key.strip().lower()
        if not colon or key not in known:
            raise wrong(flag, f"{item!r} is not KEY:VALUE with a key of {', '.join(known)}")
        if key in found:
            raise wrong(flag, f"{key} is given twice")
        found[key] = value
    for key in required:
        if not found.get(key):
            raise wrong(flag, f"{key} must be given")
    return found


def quantity(flag: str, text: str) -> str:
    """Check the value of a flag that is a size."""
    try:
        if parse_quantity(text) > 0:
            return text
    except ValueError:
        pass
    raise wrong(flag, f"{text!r} is not a size such as 512Mi")


def _base64(flag: str, text: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except ValueError as error:
        raise wrong(flag, "it is not base64") from error
    return text


def wrong(flag: str, message: str) -> CliError:
    """Return the error for the value of a flag."""
    return CliError(f"--{flag}: {message}", ExitCode.USAGE)
