"""A Secret as the kubelet keeps it in a folder: read whole, told of when it changes, and none where it is not ours."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

from polyvisor.agent.platform.endpoint.cluster.mounted import MountedSecret
from polyvisor.agent.platform.endpoint.failures import Failure
from polyvisor.agent.platform.endpoint.login import Secret, read_secret

Obj = dict[str, Any]
ENDPOINT: Obj = {"metadata": {"name": "rack4"}, "spec": {"credentials": {"secretRef": {"name": "keys"}}}}


def write(folder: Path, version: str, **values: str) -> None:
    """Do as a kubelet does."""
    (folder / version).mkdir(parents=True)
    for key, value in values.items():
        (folder / version / key).write_text(value)
    link = folder / "..data_tmp"
    link.symlink_to(version)
    link.rename(folder / "..data")


def test_a_version_is_read_whole(tmp_path: Path) -> None:
    secret = MountedSecret(tmp_path, "rack4")
    assert not secret.read()
    assert secret.of(ENDPOINT) is None
    write(tmp_path, "..1", username="root", password="a")
    assert secret.read()
    found = read_secret(ENDPOINT, secret.of(ENDPOINT))
    assert found == Secret("keys", "..1", {"username": "root", "password": "a"})
    assert not secret.read(), "nothing has changed"
    write(tmp_path, "..2", password="b")
    assert secret.read()
    assert read_secret(ENDPOINT, secret.of(ENDPOINT)) == Secret("keys", "..2", {"password": "b"})


def test_a_link_among_the_files_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path, "..1", username="root")
    (tmp_path / "..1" / "password").symlink_to("/etc/hostname")
    secret = MountedSecret(tmp_path, "rack4")
    assert not secret.read()
    assert secret.of(ENDPOINT) is None


def test_what_is_not_labelled_is_said(tmp_path: Path) -> None:
    found = read_secret(ENDPOINT, MountedSecret(tmp_path, "rack4", labelled=False).of(ENDPOINT))
    assert isinstance(found, Failure)
    assert found.reason == "SecretNotLabelled"


def test_an_endpoint_without_credentials_needs_none(tmp_path: Path) -> None:
    assert MountedSecret(tmp_path, "rack4").of({"metadata": {}, "spec": {"uri": "test+tcp://h/default"}}) is None


async def test_who_follows_is_told(tmp_path: Path) -> None:
    secret = MountedSecret(tmp_path, "rack4", seconds=0.01)
    secret.of(ENDPOINT)
    told: asyncio.Queue[str] = asyncio.Queue()
    secret.on_change(told.put_nowait)
    running = asyncio.create_task(secret.run())
    try:
        write(tmp_path, "..1", password=base64.b64encode(b"x").decode())
        assert await asyncio.wait_for(told.get(), 30) == "keys"
    finally:
        running.cancel()
