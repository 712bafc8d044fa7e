"""A simulated ESX host of a test (vcsim), with its datastore as a folder of this machine."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from urllib.parse import urlsplit

import libvirt

from polyvisor.api import Obj
from tests.agent.platform.endpoint.conftest import endpoint, secret
from tests.e2e.goprograms import NoGo, program
from tests.needs import unmet

PASSWORD = "Pa55-of-the-host"
STORE = "LocalDS_0"
SECONDS = 20.0
DESCRIPTOR = """\
# Disk DescriptorFile
version=1
CID=fffffffe
parentCID=ffffffff
createType="vmfs"

RW {sectors} VMFS "{name}-flat.vmdk"
"""


class EsxHost:
    """The host. ``datastore`` is the folder in which the files of its one datastore are."""

    def __init__(self, process: subprocess.Popen[str], datastore: Path) -> None:
        assert process.stdout
        self._process = process
        self.datastore = datastore
        self.address = urlsplit(process.stdout.readline().strip()).netloc
        self.logins = 0
        self._expired: SimpleQueue[None] = SimpleQueue()
        Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            if line.strip() == "login":
                self.logins += 1
            else:
                self._expired.put(None)

    def endpoint(self, **spec: object) -> Obj:
        """Return an endpoint that leads here; the host's certificate is signed by nobody."""
        return endpoint(f"esx://root@{self.address}/", secret=True, **{"tls": {"insecure": "Allow"}, **spec})

    def secret(self, version: int = 1, password: str = PASSWORD) -> Obj:
        return secret(version, username="root", password=password)

    def connect(self) -> libvirt.virConnect:
        """Open a connection of the test's own, as somebody who knows nothing of Polyvisor."""

        def answer(questions: list[list[object]], _: object) -> int:
            for question in questions:
                question[4] = PASSWORD if question[0] == libvirt.VIR_CRED_NOECHOPROMPT else "root"
            return 0

        kinds = [libvirt.VIR_CRED_AUTHNAME, libvirt.VIR_CRED_NOECHOPROMPT]
        return libvirt.openAuth(f"esx://root@{self.address}/?no_verify=1", [kinds, answer, None], 0)

    def expire(self) -> None:
        """End all sessions, as a host does with those that are idle."""
        assert self._process.stdin
        self._process.stdin.write("expire\n")
        self._process.stdin.flush()
        self._expired.get(timeout=SECONDS)

    def disk(self, folder: str, size: int = 16 << 20) -> str:
        """Make an empty disk as VMware's tools do; return the name that it has in the datastore."""
        place = self.datastore / folder
        place.mkdir()
        (place / "root.vmdk").write_text(DESCRIPTOR.format(sectors=size // 512, name="root"))
        with (place / "root-flat.vmdk").open("wb") as flat:
            flat.truncate(size)
        return f"{folder}/root.vmdk"


@contextmanager
def esx_host(folder: Path) -> Iterator[EsxHost]:
    """Run a host whose datastore is a new folder."""
    folder.mkdir()
    try:
        vcsim = program("vcsim")
    except NoGo as missing:
        unmet(str(missing))
    command = [vcsim, "-password", PASSWORD, "-datastore", folder]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        try:
            yield EsxHost(process, folder)
        finally:
            process.stdin.close()
