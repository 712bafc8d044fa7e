"""An endpoint's Secret as the folder that the kubelet keeps of it in the agent's Pod.

The kubelet writes each version into a folder of its own and then moves a link to it, so all keys of a version are read
through one descriptor of that folder. Its name serves as the version: the Secret's content never leaves the agent, not
even as a digest. The folder is empty where there is no such Secret, and the operator mounts none that is not labelled
for this endpoint.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
from pathlib import Path

from polyvisor.agent.platform.endpoint.platform import Told, secret_name
from polyvisor.api import Obj
from polyvisor.api.node_names import ENDPOINT_LABEL

LINK = "..data"
LOOK_SECONDS = 2.0
"""How often the link is read: the kubelet moves it up to a minute after the Secret has changed."""
MAX_BYTES = 1 << 20
"""What a Secret may have altogether in Kubernetes."""
log = logging.getLogger("polyvisor.endpoints")


class MountedSecret:
    """The one Secret of the endpoint ``name``. ``labelled`` says whether the Secret is meant for this endpoint."""

    def __init__(self, folder: Path, name: str, *, labelled: bool = True, seconds: float = LOOK_SECONDS) -> None:
        self._folder = folder
        self._name = name
        self._labelled = labelled
        self._seconds = seconds
        self._version = ""
        self._data: dict[str, str] = {}
        self._told: Told = lambda _: None
        self._secret = ""

    def on_change(self, told: Told) -> None:
        """Have ``told`` called for each change."""
        self._told = told

    async def run(self) -> None:
        """Follow the folder until cancelled."""
        while True:
            if await asyncio.to_thread(self.read) and self._secret:
                self._told(self._secret)
            await asyncio.sleep(self._seconds)

    async def synced(self) -> None:
        """Read the folder once."""
        await asyncio.to_thread(self.read)

    def of(self, endpoint: Obj) -> Obj | None:
        """Return the Secret that an endpoint names, None if its folder is empty."""
        self._secret = secret_name(endpoint)
        if not self._secret or (not self._data and self._labelled):
            return None
        labels = {ENDPOINT_LABEL: self._name} if self._labelled else {}
        metadata = {"name": self._secret, "labels": labels, "resourceVersion": self._version}
        return {"metadata": metadata, "data": self._data}

    def read(self) -> bool:
        """Read the folder if it has another version than before; return whether it has. Blocking."""
        try:
            version = str((self._folder / LINK).readlink())
            if version == self._version:
                return False
            data = _content(self._folder / version)
        except FileNotFoundError:
            version, data = "", {}
        except OSError as error:
            log.warning("the credentials cannot be read: %s", error.strerror)
            return False
        changed = (version, data) != (self._version, self._data)
        self._version, self._data = version, data
        return changed


def _content(folder: Path, limit: int = MAX_BYTES) -> dict[str, str]:
    """Return the files of one version, in base64 as a Secret has them."""
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found: dict[str, str] = {}
        for name in os.listdir(top):  # noqa: PTH208
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
            with os.fdopen(descriptor, "rb") as file:
                data = file.read(limit)
            limit -= len(data)
            found[name] = base64.b64encode(data).decode()
        return found
    finally:
        os.close(top)
