"""An endpoint on an ESX host, through libvirt's own driver, against VMware's simulator (vcsim)."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest

from polyvisor.agent.images.store import ImageStore
from polyvisor.agent.platform.endpoint import keeper
from polyvisor.agent.platform.endpoint.link import HostError
from polyvisor.agent.platform.endpoint.plan import Observed, status_of
from polyvisor.api import Obj
from polyvisor.api.cluster_resources import PVS
from polyvisor.api.resources import ENDPOINTS, PVCS, VMIS
from polyvisor.cli.app import run
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.esx import EsxDriver
from polyvisor.launcher.endpoint.https import Access, put
from polyvisor.launcher.endpoint.owned import Refused
from tests.agent.conftest import Layout, folder, member, tar
from tests.agent.platform.endpoint.conftest import Watched
from tests.agent.platform.endpoint.conftest import drivers as drivers
from tests.agent.platform.endpoint.conftest import watched as watched
from tests.agent.platform.endpoint.world import World, installed, phase
from tests.agent.platform.endpoint.world import condition as condition_of
from tests.e2e.esx import PASSWORD, STORE, EsxHost, esx_host
from tests.folders import short_folder

pytestmark = pytest.mark.e2e
FOREIGN = """
<domain type='vmware'><name>theirs</name><uuid>{uuid}</uuid><memory unit='MiB'>64</memory><vcpu>2</vcpu>
<os><type arch='x86_64'>hvm</type></os><devices>
<disk type='file' device='disk'><source file='[LocalDS_0] {disk}'/><target dev='sda' bus='scsi'/></disk>
<controller type='scsi' index='0' model='lsilogic'/></devices></domain>
"""
IMAGE = "localhost/tests/disk:1"
CONTENT = bytes(range(256)) * 8192
"""A raw disk of 2 MiB."""
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
    named = (await watched.keeper.ask("volume-names", pool=STORE, prefix="theirs"))["volumes"]
    assert [one["name"] for one in named] == [name]
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


def fingerprint(esx: EsxHost) -> str:
    host, _, port = esx.address.partition(":")
    found = hashlib.sha256(ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((host, int(port))))).hexdigest()
    return ":".join(found[i : i + 2] for i in range(0, len(found), 2))


async def test_a_host_is_known_by_the_fingerprint_of_its_certificate(esx: EsxHost, watched: Watched) -> None:
    right = await asyncio.to_thread(fingerprint, esx)
    wrong = esx.endpoint(tls={"fingerprint": right.replace(right[:2], "00" if right[:2] != "00" else "11", 1)})
    watched.start(wrong, esx.secret())
    seen = await watched.failed("CertificateNotTrusted")
    assert seen.failure is not None
    assert right in seen.failure.message
    assert esx.logins == 0, "no password is sent to a host that is not the one that is meant"
    pinned = esx.endpoint(tls={"fingerprint": right.upper()})
    watched.keeper.update(pinned, esx.secret())
    seen = await watched.connected()
    assert condition(pinned, seen, "Insecure") == ("False", "Secure")
    url = f"https://{esx.address}/folder/x?dcPath=ha-datacenter&dsName={STORE}"
    other = Access(f"esx://root@{esx.address}/?no_verify=1", "root", PASSWORD, ":".join(["00"] * 32))
    with pytest.raises(Refused, match="which is not the one expected"):
        await asyncio.to_thread(put, other, url, iter([b"x"]), 1)
    assert not (esx.datastore / "x").exists()


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


def define(keeper: Any, **asked: Any) -> Any:
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


@pytest.fixture
async def world(drivers: DriverRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(keeper, "POLL_SECONDS", 0.5)
    layout = Layout(tmp_path / "images")
    layout.image(IMAGE, tar(folder("disk"), member("disk/disk.img", CONTENT)))
    images = ImageStore(tmp_path / "images", tmp_path / "cache")
    with short_folder() as short:
        async with installed(short, drivers, images) as found:
            yield found


def mapped(esx: EsxHost) -> Obj:
    return esx.endpoint(storage=[{"storageClass": "slow", "pool": STORE, "defaultForImages": True}])


async def claim(world: World, name: str = "data", **spec: Any) -> str:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}, **spec}
    metadata = {"name": name, "namespace": "default"}
    made = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}
    uid = (await world.client.create(PVCS, made))["metadata"]["uid"]
    await world.until(PVCS, name, lambda one: phase(one) == "Bound")
    return str(uid)


async def claim_of(world: World, disk: str) -> None:
    """Make a volume of a disk that is in the datastore, and a claim of it."""
    spec: Obj = {"accessModes": ["ReadWriteOnce"], "storageClassName": "slow", "capacity": {"storage": "16Mi"}}
    spec |= {"persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": "default", "name": "data"}}
    csi = {"driver": "endpoint.hypervisor.kubevirt.io", "volumeHandle": f"rack4/{STORE}/{disk}"}
    volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "there"}}
    await world.client.create(PVS, {**volume, "spec": {**spec, "csi": csi}})
    await claim(world, storageClassName="slow", volumeName="there")


async def create(world: World, *volumes: Obj, **spec: Any) -> Obj:
    devices = {"autoattachPodInterface": False, "disks": [{"name": one["name"], "disk": {}} for one in volumes]}
    return await world.create(
        "web",
        "rack4",
        hypervisor={"virtType": "vmware"},
        domain={"devices": devices},
        volumes=list(volumes),
        **spec,
    )


DATA = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}


async def test_a_machine_whose_disk_is_there_is_switched_on_and_off_and_its_disk_stays(
    world: World, esx: EsxHost
) -> None:
    disk = esx.disk("theirs")
    await world.add(mapped(esx), esx.secret())
    await claim_of(world, disk)
    await create(world, DATA)
    vmi = await world.running("web")
    hypervisor = vmi["status"]["hypervisor"]
    assert (hypervisor["driver"], hypervisor["endpoint"], hypervisor["version"]) == ("esx", "rack4", "6.5.0")
    assert condition_of(vmi, "Ready") == "True"
    written = (esx.datastore / "theirs" / "default_web.vmx").read_text().splitlines()
    assert 'scsi0:0.fileName = "/vmfs/volumes/LocalDS_0/theirs/root.vmdk"' in written
    host = esx.connect()
    domain = host.lookupByName("default_web")
    assert domain.isActive()
    await world.delete("web")
    await world.gone("web")
    assert host.listAllDomains(0) == []
    assert (esx.datastore / disk).exists()


async def test_a_guest_that_ended_on_the_host_is_seen_without_events(world: World, esx: EsxHost) -> None:
    disk = esx.disk("theirs")
    await world.add(mapped(esx), esx.secret())
    await claim_of(world, disk)
    await create(world, DATA)
    await world.running("web")
    esx.connect().lookupByName("default_web").destroy()
    vmi = await world.until(VMIS, "web", lambda vmi: phase(vmi) == "Failed")
    assert condition_of(vmi, "Ready") == "False"
    await world.delete("web")
    await world.gone("web")
    assert esx.connect().listAllDomains(0) == []


async def test_a_guest_is_asked_to_power_down(world: World, esx: EsxHost) -> None:
    await world.add(mapped(esx), esx.secret())
    await claim_of(world, esx.disk("theirs"))
    scratch = {"name": "scratch", "emptyDisk": {"capacity": "16Mi"}}
    await create(world, DATA, scratch, terminationGracePeriodSeconds=60)
    vmi = await world.running("web")
    folder = f"polyvisor-{vmi['metadata']['uid']}-scratch"
    assert (esx.datastore / folder / f"{folder}.vmdk").exists()
    await world.delete("web")
    await world.gone("web")
    assert not (esx.datastore / folder / f"{folder}.vmdk").exists()
    assert esx.connect().listAllDomains(0) == []


async def test_a_claim_of_a_mapped_class_becomes_a_disk_of_the_datastore(world: World, esx: EsxHost) -> None:
    await world.add(mapped(esx), esx.secret())
    name = f"polyvisor-pvc-{await claim(world, storageClassName='slow')}"
    assert "RW 32768 VMFS" in (esx.datastore / name / f"{name}.vmdk").read_text()
    await create(world, DATA)
    await world.running("web")
    await world.delete("web")
    await world.gone("web")
    assert (esx.datastore / name / f"{name}.vmdk").exists()
    _, version = await world.client.list_with_version(PVS)
    await world.client.delete(PVCS, "data", "default")
    async with asyncio.timeout(60):
        async for event in world.client.watch(PVS, resource_version=version):
            if event.type == "DELETED":
                break
    assert not (esx.datastore / name / f"{name}.vmdk").exists()


async def test_a_machine_goes_on_without_the_agent_and_with_an_expired_session(world: World, esx: EsxHost) -> None:
    await world.add(mapped(esx), esx.secret())
    await claim_of(world, esx.disk("theirs"))
    await create(world, DATA)
    before = await world.running("web")
    await world.stop_agent()
    assert esx.connect().lookupByName("default_web").isActive()
    await world.start_agent()
    esx.expire()
    await world.until(ENDPOINTS, "rack4", lambda one: condition_of(one, "Ready") == "True", None)
    after = await world.client.get(VMIS, "web", "default")
    assert after["status"]["phaseTransitionTimestamps"] == before["status"]["phaseTransitionTimestamps"]
    await world.delete("web")
    await world.gone("web")


async def test_a_definition_that_was_interrupted_is_made_anew(esx: EsxHost, watched: Watched) -> None:
    watched.start(esx.endpoint(), esx.secret())
    await watched.connected()
    mark = "<p:owner xmlns:p='http://hypervisor.kubevirt.io/owner/1.0' cluster='ours' machine='m'/>"
    text = FOREIGN.format(uuid=UUID, disk=esx.disk("ours"))
    xml = text.replace("<memory", f"<description>{escape(mark)}</description><memory")
    for _ in range(2):
        assert (await define(watched.keeper, xml=xml, anew=True))["uuid"] == UUID
    owner = {"uuid": UUID, "cluster": "ours", "machine": "m"}
    assert (await watched.keeper.ask("start", **owner))["state"] == "running"
    with pytest.raises(HostError, match="domain theirs runs"):
        await define(watched.keeper, xml=xml, anew=True)


ROOT = {"name": "root", "containerDisk": {"image": IMAGE}}


def content(disk: Path) -> bytes:
    """Return what a guest reads of a disk, by its descriptor."""
    command = ["qemu-img", "dd", "-f", "vmdk", "-O", "raw", "bs=1M", f"if={disk}", f"of={disk}.raw"]
    subprocess.run(command, check=True)
    return Path(f"{disk}.raw").read_bytes()


async def test_an_image_is_brought_to_the_datastore_once_and_each_machine_has_a_copy(
    world: World, esx: EsxHost
) -> None:
    await world.add(mapped(esx), esx.secret())
    for _ in range(2):
        await create(world, ROOT)
        vmi = await world.running("web")
        name = f"polyvisor-{vmi['metadata']['uid']}-root"
        copied = esx.datastore / name / f"{name}-flat.vmdk"
        assert copied.read_bytes() == CONTENT  # the simulator copies the descriptor as it is, with the image's name
        (image,) = esx.datastore.glob("polyvisor-image-*/polyvisor-image-????????????????????.vmdk")
        assert await asyncio.to_thread(content, image) == CONTENT
        brought = image.stat().st_mtime_ns
        await world.delete("web")
        await world.gone("web")
        assert not copied.exists()
        assert image.stat().st_mtime_ns == brought
    assert len(list(esx.datastore.glob("polyvisor-image-*/*.whole.vmdk"))) == 1


def test_an_upload_that_the_host_refuses_or_to_a_host_that_is_not_verified_says_so(esx: EsxHost) -> None:
    url = EsxDriver().upload_url(f"esx://root@{esx.address}/", STORE, "polyvisor-a/polyvisor-a.vmdk")
    uri = f"esx://root@{esx.address}/"
    with pytest.raises(Refused, match="certificate verify failed"):
        put(Access(uri, password=PASSWORD), url, iter([b"a"]), 1)
    with pytest.raises(Refused, match="refused the upload: HTTP 401 Unauthorized"):
        put(Access(f"{uri}?no_verify=1", password="wrong"), url, iter([b"a"]), 1)
    assert list(esx.datastore.iterdir()) == []
    put(Access(f"{uri}?no_verify=1", password=PASSWORD), url, iter([b"a", b"bc"]), 3)
    assert (esx.datastore / "polyvisor-a" / "polyvisor-a-flat.vmdk").read_bytes() == b"abc"


async def test_the_command_line_adds_a_host_and_maps_its_datastore(
    world: World, esx: EsxHost, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    words = ["--name", "rack4", "--password-file", str(tmp_path / "password"), "--insecure"]
    command = ["--kubeconfig", str(world.kubeconfig), "endpoint", "add", f"esx://root@{esx.address}/", *words]
    code = await asyncio.to_thread(run, command)
    told = capsys.readouterr()
    assert code == 0, told.err
    assert f"pool {STORE} of the host is where disks go (storage class rack4)" in told.out
