"""libvirt's own ESX driver, through a launcher, against a simulator of an ESX host: log in, define, switch on and off.

What the simulator keeps is looked at by libvirt and in the host's datastore: the VMX file that libvirt uploads.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import libvirt
import pytest

from polyvisor.domain import DiskSource, DomainContext, domain_name, render
from polyvisor.drivers.base import Endpoint
from polyvisor.drivers.esx import VOLUMES, EsxDriver
from polyvisor.testing import bench, machines
from tests.drivers.kit import machine
from tests.e2e.goprograms import NoGo, program
from tests.needs import unmet

pytestmark = [pytest.mark.e2e, pytest.mark.proof]
DRIVER = EsxDriver()
PASSWORD = "Pa55-of-the-host"
STORE = "LocalDS_0"
AUTH = "[credentials-host]\nusername=root\npassword={password}\n\n[auth-esx-127.0.0.1]\ncredentials=host\n"
EFI = {"bootloader": {"efi": {"secureBoot": False}}}
DOMAIN = {"cpu": {"sockets": 2}, "memory": {"guest": "97Mi"}, "firmware": EFI, "devices": {"disks": [{"name": "root"}]}}


@dataclass(frozen=True)
class Host:
    """The simulated host, and the folder in which its datastore is."""

    endpoint: Endpoint
    datastore: Path

    def disk(self, folder: str) -> DiskSource:
        """Return a disk image of a folder of its own in the datastore."""
        (self.datastore / folder).mkdir()
        (self.datastore / folder / "root.vmdk").touch()
        return DiskSource(VOLUMES / STORE / folder / "root.vmdk", "vmdk")  # type: ignore[arg-type]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    datastore, auth = tmp_path / "datastore", tmp_path / "auth.conf"
    datastore.mkdir()
    auth.write_text(AUTH.format(password=PASSWORD))
    try:
        vcsim = program("vcsim")
    except NoGo as missing:
        unmet(str(missing))
    command = [vcsim, "-password", PASSWORD, "-datastore", datastore]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        port = urlsplit(process.stdout.readline().strip()).port
        yield Host(Endpoint(f"esx://root@127.0.0.1:{port}/?no_verify=1", auth), datastore)
        process.communicate(timeout=20)


def test_a_machine_is_defined_switched_on_paused_and_off(host: Host, tmp_path: Path) -> None:
    vmi = machine(DRIVER, DOMAIN)
    DRIVER.defaults(vmi.spec)
    xml = render(vmi, DRIVER, DomainContext("vmware", disks={"root": host.disk("web")}))
    with bench(DRIVER, vmi, tmp_path, host.endpoint) as one:
        agent = one.launch()
        assert agent.greeting["hello"]["hypervisorVersion"] == "6.5.0"
        assert agent.result("start", xml=xml)["state"] == "running"
        written = (host.datastore / "web" / f"{domain_name(vmi)}.vmx").read_text().splitlines()
        for line in (
            'scsi0:0.fileName = "/vmfs/volumes/LocalDS_0/web/root.vmdk"',
            'memsize = "100"',
            'numvcpus = "2"',
            'cpuid.coresPerSocket = "1"',
            'firmware = "efi"',
        ):
            assert line in written
        assert not [p for p in one.folder.iterdir() if p.is_file() and PASSWORD in p.read_text(errors="replace")]
        assert agent.result("pause")["state"] == "paused"
        assert agent.result("resume")["state"] == "running"
        one.kill()
        agent = one.launch()
        assert agent.result("state")["state"] == "running", "the machine is found again by a new launcher"
        agent.result("shutdown")
        assert agent.until("shutoff")["reason"] == "shutdown"


def test_a_wrong_password_is_told_and_not_repeated(host: Host, tmp_path: Path) -> None:
    assert host.endpoint.auth_file
    host.endpoint.auth_file.write_text(AUTH.format(password="wrong-Pa55"))
    vmi = machine(DRIVER, DOMAIN)
    with bench(DRIVER, vmi, tmp_path, host.endpoint) as one:
        answer = one.launch().ask("start", xml="<domain/>")
        assert "login" in answer["error"]["message"].lower()
        assert "wrong-Pa55" not in str(answer)
        host.endpoint.auth_file.write_text(AUTH.format(password=PASSWORD))


def test_libvirt_takes_every_machine_of_the_corpus(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "LIBVIRT_AUTH_FILE", str(host.endpoint.auth_file))
    connection = libvirt.openAuth(host.endpoint.uri, [[], lambda *_: -1, None])
    refused = {}
    for case in machines.corpus(DRIVER):
        (host.datastore / case.id).mkdir()
        context = machines.context_for(DRIVER, case.obj, Path(VOLUMES / STORE / case.id))
        assert context
        try:
            connection.defineXML(render(case.vmi, DRIVER, context)).undefine()
        except libvirt.libvirtError as error:
            refused[case.id] = str(error)
    assert refused == {}
