"""``image-upload``: an image on this machine into a claim or DataVolume, by CDI's protocol, with progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from polyvisor.api.reading import nested, read_status
from polyvisor.cli.client import Client, Obj
from polyvisor.cli.context import Session
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.output import say
from polyvisor.kube.errors import ApiError

CLAIMS = "/api/v1/namespaces/{}/persistentvolumeclaims"
VOLUMES = "/apis/cdi.kubevirt.io/v1beta1/namespaces/{}/datavolumes"
TOKENS = "/apis/upload.cdi.kubevirt.io/v1beta1/namespaces/{}/uploadtokenrequests"
CONFIG = "/apis/cdi.kubevirt.io/v1beta1/cdiconfigs/config"
UPLOAD = "/v1beta1/upload"
TARGET = "cdi.kubevirt.io/storage.upload.target"
PHASE, IS_READY = "cdi.kubevirt.io/storage.pod.phase", "cdi.kubevirt.io/storage.pod.ready"
CONTENT_TYPE = "cdi.kubevirt.io/storage.contentType"
BIND_NOW = "cdi.kubevirt.io/storage.bind.immediate.requested"
CHUNK = 1024 * 1024
LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Wanted:
    """What is uploaded, and into what."""

    kind: str
    name: str
    path: Path
    archive: bool = False
    size: str = ""
    storage_class: str = ""
    access_mode: str = ""
    volume_mode: str = ""
    force_bind: bool = False
    no_create: bool = False
    insecure: bool = False
    proxy: str = ""
    wait_seconds: float = 300
    retries: int = 5
    labels: Mapping[str, str] = field(default_factory=dict)
    """What machines that are made from the volume infer their size from."""


def upload(session: Session, namespace: str, wanted: Wanted) -> None:
    """Make the target if need be, wait until it takes an upload, send the image, and wait until it is in place."""
    if not wanted.path.is_file():
        raise CliError(f"{wanted.path}: there is no such file", ExitCode.USAGE)
    target = _Target(session.client, namespace, wanted)
    target.ensure()
    deadline = time.monotonic() + wanted.wait_seconds
    target.until(target.ready, deadline, "takes no upload")
    proxy = wanted.proxy or _proxy(session.client)
    for left in range(wanted.retries, -1, -1):
        token = session.client.request("POST", TOKENS.format(namespace), _request(wanted.name))["status"]["token"]
        code, answer = _sent(session.client, proxy, token, wanted)
        if code == 200:
            break
        if code < 500 or not left:
            raise CliError(f"the upload was refused ({code}): {answer or 'no reason was given'}")
        time.sleep(1)
    say("Uploading data completed successfully, waiting for processing to complete")
    target.until(target.done, time.monotonic() + wanted.wait_seconds, "is not ready")
    say(f"Uploading {wanted.path} completed successfully")


def _request(name: str) -> Obj:
    kind = {"apiVersion": "upload.cdi.kubevirt.io/v1beta1", "kind": "UploadTokenRequest"}
    return {**kind, "metadata": {"name": name}, "spec": {"pvcName": name}}


class _Target:
    """The claim or DataVolume that is filled."""

    def __init__(self, client: Client, namespace: str, wanted: Wanted) -> None:
        self._client = client
        self._wanted = wanted
        self._is_volume = wanted.kind == "dv"
        self._word = "DataVolume" if self._is_volume else "PersistentVolumeClaim"
        self._all = (VOLUMES if self._is_volume else CLAIMS).format(namespace)
        self._called = f"{self._word} {namespace}/{wanted.name}"

    def ensure(self) -> None:
        """Make it, or see that it is there."""
        try:
            found = self._client.get(f"{self._all}/{self._wanted.name}")
        except ApiError as error:
            if not error.not_found:
                raise
            if self._wanted.no_create:
                raise CliError(f"{self._called} does not exist", ExitCode.NOT_FOUND) from None
            if not self._wanted.size:
                message = f"{self._called} does not exist; give its size with --size to have it made"
                raise CliError(message, ExitCode.USAGE) from None
            self._client.request("POST", self._all, self._new())
            say(f"{self._called} created")
            return
        takes = "upload" in (found["spec"].get("source") or {}) if self._is_volume else TARGET in _annotations(found)
        if not takes:
            raise CliError(f"{self._called} exists and was not made for an upload", ExitCode.CONFLICT)
        if self.done(found):
            raise CliError(f"{self._called} holds an upload already", ExitCode.CONFLICT)
        say(f"Using existing {self._called}")

    def _new(self) -> Obj:
        wanted = self._wanted
        storage: Obj = {"resources": {"requests": {"storage": wanted.size}}}
        storage |= {"storageClassName": wanted.storage_class} if wanted.storage_class else {}
        storage |= {"accessModes": [wanted.access_mode]} if wanted.access_mode else {}
        storage |= {"volumeMode": wanted.volume_mode.capitalize()} if wanted.volume_mode else {}
        annotations = {BIND_NOW: ""} if wanted.force_bind else {}
        if self._is_volume:
            spec: Obj = {"source": {"upload": {}}, "storage": storage}
            spec |= {"contentType": "archive"} if wanted.archive else {}
            version = "cdi.kubevirt.io/v1beta1"
        else:
            annotations |= {TARGET: "", CONTENT_TYPE: "archive" if wanted.archive else "kubevirt"}
            spec = {"accessModes": ["ReadWriteOnce"], **storage}
            version = "v1"
        metadata: Obj = {"name": wanted.name, **({"annotations": annotations} if annotations else {})}
        if wanted.labels:
            metadata["labels"] = dict(wanted.labels)
        return {"apiVersion": version, "kind": self._word, "metadata": metadata, "spec": spec}

    def ready(self, obj: Obj) -> bool:
        """Whether an upload may come."""
        if self._is_volume:
            return read_status(obj).get("phase") == "UploadReady"
        found = _annotations(obj)
        return found.get(PHASE) == "Running" and found.get(IS_READY) == "true"

    def done(self, obj: Obj) -> bool:
        """Whether the upload is in place."""
        phase = read_status(obj).get("phase") if self._is_volume else _annotations(obj).get(PHASE)
        return phase == "Succeeded"

    def until(self, holds: Callable[[Obj], bool], deadline: float, otherwise: str) -> None:
        """Wait until the target is as wanted."""
        while not holds(found := self._client.get(f"{self._all}/{self._wanted.name}")):
            if read_status(found).get("phase") == "Failed" or time.monotonic() > deadline:
                phase = read_status(found).get("phase") or "no phase"
                raise CliError(f"{self._called} {otherwise} ({phase})", ExitCode.TIMEOUT)
            time.sleep(LOOK_SECONDS)


def _annotations(obj: Obj) -> Obj:
    return obj["metadata"].get("annotations") or {}


def _proxy(client: Client) -> str:
    with suppress(ApiError):
        config = client.get(CONFIG)
        found = nested(config, "spec").get("uploadProxyURLOverride")
        if found := found or read_status(config).get("uploadProxyURL"):
            return str(found) if "://" in str(found) else f"https://{found}"
    raise CliError("the cluster names no upload proxy; give its address with --uploadproxy-url", ExitCode.USAGE)


def _sent(client: Client, proxy: str, token: str, wanted: Wanted) -> tuple[int, str]:
    """Send the file; return the answer."""
    size = wanted.path.stat().st_size
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/octet-stream"}
    headers["Content-Length"] = str(size)
    path = urlsplit(proxy).path.rstrip("/") + UPLOAD
    connection = _connection(client, proxy, wanted)
    try:
        with wanted.path.open("rb") as file:
            connection.request("POST", path, body=_pieces(file, size), headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(4096).decode(errors="replace").strip()
    except (OSError, HTTPException) as error:
        with suppress(OSError, HTTPException):  # a server that refuses may say so before it has read everything
            answer = connection.getresponse()
            return answer.status, answer.read(4096).decode(errors="replace").strip()
        return 503, str(error)
    finally:
        connection.close()


def _connection(client: Client, proxy: str, wanted: Wanted) -> HTTPConnection:
    import ssl
    from http.client import HTTPSConnection

    parts, server = urlsplit(proxy), urlsplit(client.connection.server)
    host = parts.hostname or ""
    if parts.scheme != "https":
        raise CliError(f"{proxy}: an upload carries a token, so an https:// address is wanted", ExitCode.USAGE)
    if wanted.insecure:
        context = ssl._create_unverified_context()
    elif parts.netloc == server.netloc and client.connection.ssl_context is not None:
        context = client.connection.ssl_context
    else:
        context = ssl.create_default_context()
    return HTTPSConnection(host, parts.port or 443, timeout=600, context=context)


def _pieces(file: Any, size: int) -> Iterator[bytes]:
    """Yield the file, and show how much of it went, where somebody looks."""
    sent, shown, begun = 0, -1, time.monotonic()
    while chunk := file.read(CHUNK):
        yield chunk
        sent += len(chunk)
        percent = sent * 100 // max(size, 1)
        if percent != shown and sys.stderr.isatty():
            speed = sent / max(time.monotonic() - begun, 0.001) / CHUNK
            sys.stderr.write(f"\r {sent / CHUNK:.2f} MiB / {size / CHUNK:.2f} MiB  {percent}% {speed:.1f} MiB/s ")
            sys.stderr.flush()
            shown = percent
    if sys.stderr.isatty():
        sys.stderr.write("\n")
