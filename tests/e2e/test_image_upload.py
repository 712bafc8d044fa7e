"""An image on its way from the command line into a claim, through a running installation; and what goes wrong there."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from polyvisor.cli.client import Client
from polyvisor.cli.image_upload import TOKENS
from polyvisor.kube.config import from_kubeconfig
from polyvisor.kube.errors import ApiError

from .standalone import BIN, ROOT, Standalone, standalone

pytestmark = pytest.mark.e2e
CONTENT = (b"a disk" + bytes(4090)) * 256


@pytest.fixture(scope="module")
def home() -> Iterator[Standalone]:
    with standalone() as home:
        home.run("up")
        (home.folder / "disk.img").write_bytes(CONTENT)
        qcow2 = ["qemu-img", "convert", "-c", "-O", "qcow2", home.folder / "disk.img", home.folder / "disk.qcow2"]
        subprocess.run(qcow2, check=True)
        try:
            yield home
        finally:
            home.run("down")


def disk(home: Standalone, name: str) -> Path:
    return home.folder / "volumes/default" / name / "disk.img"


def fails(home: Standalone, *arguments: str | Path) -> str:
    environment = {**os.environ, "POLYVISOR_STATE_DIR": str(home.folder)}
    command = [BIN / "polyvisor", "image-upload", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0, done.stdout
    return done.stderr


def obj(home: Standalone, kind: str, name: str) -> Any:
    return json.loads(home.run("get", kind, name, "-o", "json"))


def test_into_a_data_volume(home: Standalone) -> None:
    out = home.run("image-upload", "dv", "first", "--size", "2Mi", "--image-path", home.folder / "disk.qcow2")
    assert "completed successfully" in out
    assert obj(home, "dv", "first")["status"]["phase"] == "Succeeded"
    assert disk(home, "first").read_bytes() == CONTENT.ljust(2 << 20, b"\0")
    again = fails(home, "dv", "first", "--size", "2Mi", "--image-path", home.folder / "disk.qcow2")
    assert "holds an upload already" in again


def test_into_a_claim(home: Standalone) -> None:
    home.run("image-upload", "pvc", "second", "--size", "2Mi", "--image-path", home.folder / "disk.img")
    found = obj(home, "pvc", "second")
    assert found["metadata"]["annotations"]["cdi.kubevirt.io/storage.pod.phase"] == "Succeeded"
    assert disk(home, "second").read_bytes() == CONTENT.ljust(2 << 20, b"\0")


def test_what_does_not_fit_is_refused_with_the_reason_and_leaves_nothing(home: Standalone) -> None:
    larger = home.folder / "larger.img"
    larger.write_bytes((home.folder / "disk.img").read_bytes() + bytes(2 << 20))
    error = fails(home, "dv", "small", "--size", "1Mi", "--image-path", larger, "--retry", "0")
    assert "larger than its claim" in error
    assert not disk(home, "small").exists()
    assert obj(home, "dv", "small")["status"]["phase"] == "UploadReady"


def test_wrong_uses(home: Standalone) -> None:
    image = home.folder / "disk.img"
    assert "give its size with --size" in fails(home, "dv", "new", "--image-path", image)
    assert "does not exist" in fails(home, "dv", "new", "--no-create", "--image-path", image)
    assert "there is no such file" in fails(home, "dv", "new", "--image-path", "/nowhere", "--size", "1Mi")
    assert "accepted: dv, pvc" in fails(home, "vm", "new", "--image-path", image)
    assert "https:// address is wanted" in fails(
        home, "dv", "other", "--size", "2Mi", "--image-path", image, "--uploadproxy-url", "http://127.0.0.1:1"
    )


def test_an_upload_that_is_cut_off_leaves_nothing_and_the_next_one_works(home: Standalone) -> None:
    connection = from_kubeconfig(home.kubeconfig)
    client = Client(connection)
    spec = {"source": {"upload": {}}, "storage": {"resources": {"requests": {"storage": "2Mi"}}}}
    kind = {"apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume", "metadata": {"name": "cut"}, "spec": spec}
    client.request("POST", "/apis/cdi.kubevirt.io/v1beta1/namespaces/default/datavolumes", kind)
    token = ""
    deadline = time.monotonic() + 60
    while not token and time.monotonic() < deadline:
        with suppress(ApiError):  # it does not wait for an upload yet
            token = client.request("POST", TOKENS.format("default"), {"spec": {"pvcName": "cut"}})["status"]["token"]
    head = f"POST /v1beta1/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    head += "Content-Length: 1048576\r\n\r\n"
    with _tls(client) as peer:
        peer.sendall(head.encode() + CONTENT[:300_000])
    with _tls(client) as peer:  # and one with no token, or a forged one
        peer.sendall(head.replace(token, token[:-8] + "AAAAAAA=").encode())
        assert b" 401 " in peer.recv(4096).split(b"\r\n")[0]
    image = home.folder / "disk.img"
    home.run("image-upload", "dv", "cut", "--image-path", image)
    assert disk(home, "cut").read_bytes().startswith(CONTENT)
    assert not [path for path in disk(home, "cut").parent.parent.iterdir() if path.name.startswith(".")]


def _tls(client: Client) -> ssl.SSLSocket:
    server = urlsplit(client.connection.server)
    assert client.connection.ssl_context is not None
    plain = socket.create_connection((server.hostname or "", server.port or 443), timeout=30)
    return client.connection.ssl_context.wrap_socket(plain, server_hostname=server.hostname)
