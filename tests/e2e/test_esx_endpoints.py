"""An endpoint on an ESX host, through libvirt's own driver, against VMware's simulator (vcsim)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.endpoint.link import HostError
from polyvisor.agent.endpoint.plan import Observed, status_of
from polyvisor.api import Obj
from tests.agent.endpoint.conftest import Watched
from tests.agent.endpoint.conftest import drivers as drivers
from tests.agent.endpoint.conftest import watched as watched
from tests.e2e.esx import PASSWORD, STORE, EsxHost, esx_host

pytestmark = pytest.mark.e2e
FOREIGN = """
<domain type='vmware'><name>theirs</name><uuid>{uuid}</uuid><memory unit='MiB'>64</memory><vcpu>2</vcpu>
<os><type arch='x86_64'>hvm</type></os><devices>
<disk type='file' device='disk'><source file='[LocalDS_0] {disk}'/><target dev='sda' bus='scsi'/></disk>
<controller type='scsi' index='0' model='lsilogic'/></devices></domain>
"""
UUID = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
def esx(tmp_path: Path) -> Iterator[EsxHost]:
    with esx_host(tmp_path / "datastore") as found:
        yield found


def condition(endpoint: Obj, seen: Observed, type_: str) -> tuple[str, str]:
    found = status_of(endpoint, seen, "2026-01-01T00:00:00Z")["conditions"]
    return next((one["status"], one["reason"]) for one in found if one["type"] == type_)


async def test_a_host_is_connected_and_its_datastores_and_domains_are_listed(esx: EsxHost, watched: Watched) -> None:
    name = esx.disk("theirs")
    watched.start(esx.endpoint(), esx.secret())
    seen = await watched.connected()
    assert seen.driver == "esx"
    assert seen.host is not None
    assert (seen.host.type, seen.host.hypervisor_version, seen.host.encrypted) == ("esx", "6.5.0", True)
    assert (seen.host.cpus, seen.host.events) == (2, False)
    assert seen.domains == ()
    assert condition(esx.endpoint(), seen, "Ready") == ("True", "Connected")
    assert condition(esx.endpoint(), seen, "Insecure") == ("True", "Allowed")
    pools = (await watched.keeper.ask("pools"))["pools"]
    assert [(pool["name"], pool["path"], pool["active"]) for pool in pools] == [(STORE, f"/vmfs/volumes/{STORE}", True)]
    volumes = (await watched.keeper.ask("volumes", pool=STORE))["volumes"]
    assert [(one["name"], one["path"], one["capacity"]) for one in volumes] == [(name, f"[{STORE}] {name}", 16 << 20)]
    assert (await watched.keeper.ask("volume-names", pool=STORE))["names"] == [name]
    files = [path for path in watched.keeper.folder.rglob("*") if path.is_file()]
    assert [path for path in files if PASSWORD in path.read_text()] == []
    assert "warning" not in (watched.keeper.folder / "launcher.log").read_text()


async def test_a_host_that_is_not_verified_needs_the_administrators_word(esx: EsxHost, watched: Watched) -> None:
    watched.start(esx.endpoint(tls={"insecure": "Never"}), esx.secret())
    seen = await watched.failed("CertificateNotTrusted")
    assert condition(esx.endpoint(), seen, "Authenticated") == ("False", "CertificateNotTrusted")
    assert esx.logins == 0, "no password is sent to a host that is not the one that is meant"
    watched.keeper.update(esx.endpoint(), esx.secret())
    await watched.connected()


async def test_a_wrong_password_is_not_tried_again_until_the_secret_changes(esx: EsxHost, watched: Watched) -> None:
    watched.start(esx.endpoint(), esx.secret(password="wrong-Pa55"))
    seen = await watched.failed("CredentialsRefused")
    assert condition(esx.endpoint(), seen, "Authenticated") == ("False", "CredentialsRefused")
    assert "wrong-Pa55" not in str(seen.failure)
    assert esx.logins == 1
    for change in ({"a": "b"}, {"c": "d"}):  # each makes the keeper look again, as a change of the object does
        saved = len(watched.saved)
        watched.keeper.update(esx.endpoint(capacity={"memory": "1Gi"}, networks=[change]), esx.secret(password="x"))
        await watched.until(lambda _, before=saved: len(watched.saved) > before)  # type: ignore[misc]
    assert esx.logins == 1
    watched.keeper.update(esx.endpoint(), esx.secret(2))
    await watched.connected()
    assert esx.logins == 2


async def test_a_session_that_expired_is_opened_anew_without_a_failure(esx: EsxHost, watched: Watched) -> None:
    watched.start(esx.endpoint(), esx.secret())
    await watched.connected()
    pid, logins = watched.keeper.launcher_pid, esx.logins
    esx.expire()
    assert (await watched.keeper.ask("domains", everything=True))["domains"] == []
    assert esx.logins == logins + 1
    assert watched.keeper.launcher_pid == pid
    assert all(seen.failure is None for seen in watched.saved)


def define(keeper: Any, **asked: str) -> Any:
    return keeper.ask("define", cluster="ours", machine="m", **asked)


async def test_a_domain_of_others_is_listed_and_left_alone(esx: EsxHost, watched: Watched) -> None:
    watched.start(esx.endpoint(), esx.secret())
    await watched.connected()
    await define(watched.keeper, xml=FOREIGN.format(uuid=UUID, disk=esx.disk("theirs")))
    told = (await watched.keeper.ask("domains", everything=True))["domains"]
    assert [(one["name"], one["state"], one["vcpus"], one["memoryBytes"], one["mark"]) for one in told] == [
        ("theirs", "shutoff", 2, 64 << 20, "")
    ]
    for operation in ("start", "destroy", "undefine", "pause", "reboot"):
        with pytest.raises(HostError, match="domain theirs is not this machine's; by its mark it is nobody's"):
            await watched.keeper.ask(operation, uuid=UUID, cluster="ours", machine="m")
    with pytest.raises(HostError, match="is not this machine's"):
        await define(watched.keeper, xml=FOREIGN.format(uuid=UUID, disk="theirs/root.vmdk"))
