"""What a DataVolume's source is, and filling a claim from it. Blocking."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from polyvisor.agent.errors import AgentError, translated
from polyvisor.agent.files import safepath
from polyvisor.agent.images.registry import Pull, Reference
from polyvisor.agent.images.store import ImageStore
from polyvisor.agent.imports.downloads import Request, download
from polyvisor.agent.imports.incoming import DISK, Incoming
from polyvisor.agent.storage import disks
from polyvisor.api import Obj
from polyvisor.api.launcher_pods import is_block
from polyvisor.api.quantity import whole

Tell = Callable[[float], None]
ARCHIVE = "archive"


@dataclass(frozen=True, repr=False)
class Needs:
    """The objects that a source names, by name; empty until they were read."""

    secrets: dict[str, Obj] = field(default_factory=dict)
    configmaps: dict[str, Obj] = field(default_factory=dict)


def needs_of(volume: Obj) -> Needs:
    """Return what a DataVolume's source names."""
    found = Needs()
    for source in (volume["spec"].get("source") or {}).values():
        if name := source.get("secretRef"):
            found.secrets[name] = {}
        if name := source.get("certConfigMap"):
            found.configmaps[name] = {}
    return found


Fetch = Callable[[str, str, Path, Tell, threading.Event], str]
"""Brings the disk of a claim that is on an endpoint's host to a new file of this machine and returns its format.

Empty if the claim is not on such a host. The arguments are namespace, name, the file, how far it is, and whether it
was given up.
"""


class Filler:
    """Fills claims below a folder. ``images`` gives the store of images, once there is one."""

    def __init__(
        self,
        volumes: Path,
        images: Callable[[], ImageStore | None],
        in_use: Callable[[str, str], bool],
        fetch: Fetch = lambda *_: "",
        here: Path | None = None,
    ) -> None:
        """``here`` is where the claims of this machine are, if they are not below ``volumes``."""
        self._volumes = volumes
        self._images = images
        self._in_use = in_use
        self._fetch = fetch
        self._here = here or volumes

    def incoming(self, claim: Obj, called: str, archive: bool, tell: Tell, stop: threading.Event) -> Incoming:
        """Return what takes bytes into a claim."""
        metadata = claim["metadata"]
        if archive and is_block(claim):
            name = f"{metadata['namespace']}/{metadata['name']}"
            raise AgentError(f"claim {name} is a block device, which takes a disk image and no archive", retry=False)
        size = whole(claim["spec"]["resources"]["requests"]["storage"])
        return Incoming(
            self._volumes,
            metadata["namespace"],
            metadata["name"],
            int(size),
            called,
            archive=archive,
            progress=tell,
            stop=stop,
        )

    def fill(self, volume: Obj, claim: Obj, given: Needs, tell: Tell, stop: threading.Event) -> str:
        """Fill the claim as the DataVolume asks; return what is odd about the disk, if anything is."""
        kind, source = next(iter((volume["spec"].get("source") or {"blank": {}}).items()))
        archive = volume["spec"].get("contentType") == ARCHIVE
        called = {"http": source.get("url"), "registry": source.get("url"), "pvc": source.get("name")}.get(kind, kind)
        with self.incoming(claim, str(called), archive, tell, stop) as into:
            if kind == "http":
                download(_request(source, given), into, tell)
            elif kind == "registry":
                reference = str(source["url"]).removeprefix("docker://")
                images = self._images()
                if images is None:
                    raise AgentError("the store of images is not open yet")
                into.take(images.disk(reference, pull=_pull(reference, source, given)))
            elif kind == "pvc":
                self._clone(source["namespace"], source["name"], into, tell, stop)
            else:
                into.blank()
            return into.warning

    def deliver(self, claim: Obj, tell: Tell, stop: threading.Event) -> None:
        """Bring what was put below the folder to where the claim is: it is there already."""

    def _clone(self, namespace: str, name: str, into: Incoming, tell: Tell, stop: threading.Event) -> None:
        if self._in_use(namespace, name):
            raise AgentError(f"claim {namespace}/{name} is in use by a machine; it is copied when that has ended")
        fetched = into.scratch / "fetched"
        if format_ := self._fetch(namespace, name, fetched, tell, stop):
            into.take_as(fetched, format_)
            return
        folder = disks.claim_folder(self._here, namespace, name)
        with translated(folder, f"copying claim {namespace}/{name}"), safepath.opened_root(self._here) as top:
            try:
                disk = safepath.open_file(top, [namespace, name, DISK])
            except FileNotFoundError:
                into.copy_tree(folder)
                return
            try:
                into.copy(disk)
            finally:
                os.close(disk)


def _texts(secret: Obj) -> Mapping[str, str]:
    return {key: base64.b64decode(value).decode(errors="replace") for key, value in (secret.get("data") or {}).items()}


def _request(source: Obj, given: Needs) -> Request:
    secret = _texts(given.secrets.get(source.get("secretRef") or "") or {})
    authorities = given.configmaps.get(source.get("certConfigMap") or "") or {}
    headers = dict(_header(line) for line in source.get("extraHeaders") or [])
    return Request(
        str(source["url"]),
        headers,
        secret.get("accessKeyId", ""),
        secret.get("secretKey", ""),
        "\n".join((authorities.get("data") or {}).values()),
    )


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()


def _pull(reference: str, source: Obj, given: Needs) -> Pull:
    """Return credentials for a registry, which CDI's Secrets hold as a name and a key."""
    secret = _texts(given.secrets.get(source.get("secretRef") or "") or {})
    wanted = Reference.parse(reference)
    if not secret or wanted is None:
        return Pull()
    login = base64.b64encode(f"{secret.get('accessKeyId', '')}:{secret.get('secretKey', '')}".encode()).decode()
    return Pull(credentials=json.dumps({"auths": {wanted.host: {"auth": login}}}).encode())
