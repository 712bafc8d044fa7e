"""``endpoint`` and ``domains`` against an API server with the agent of endpoints, on libvirt's test driver."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
import yaml

from polyvisor.agent.platform.endpoint.agent import EndpointAgent
from polyvisor.cli.app import run
from polyvisor.drivers import DriverRegistry
from polyvisor.kube.client import KubeClient
from polyvisor.kube.tasks import end_task
from polyvisor.process.serving import WebServer, context_of
from polyvisor.server import endpoint_doors
from polyvisor.server.endpoint_doors import EndpointDoors
from polyvisor.standalone import preflight
from polyvisor.standalone.admission import admitter
from polyvisor.standalone.apiserver import create_app
from polyvisor.standalone.apiserver.store import Store
from polyvisor.standalone.bootstrap import bootstrap
from polyvisor.standalone.identity import ensure_identity, write_kubeconfig
from tests.agent.platform.endpoint.conftest import drivers as drivers
from tests.cli.conftest import Result

TEST = "test:///default"
AWAY = "qemu+unix:///system?socket=/nonexistent/libvirt-sock"


async def _serve(root: Path, drivers: DriverRegistry, started: Future[Path], stop: Future[None]) -> None:
    identity = await asyncio.to_thread(ensure_identity, root)
    doors = EndpointDoors()
    async with Store(root / "db.sqlite").opened() as store:
        listener = preflight.listen(0, 0)
        kubeconfig = root / "kubeconfig"
        write_kubeconfig(kubeconfig, identity, listener.getsockname()[1])
        app = create_app(store, [identity.token], admit=admitter(store, drivers), extra_routes=doors.routes())
        async with KubeClient.from_kubeconfig(kubeconfig) as client:
            web = WebServer(app, listener, context_of(identity.cert, identity.key))
            await web.start()
            await bootstrap(client)
            doors.agent = EndpointAgent(client, drivers, root / "e")
            agent = asyncio.create_task(doors.agent.run())
            started.set_result(kubeconfig)
            await asyncio.wrap_future(stop)
            await end_task(agent)
            store.end_watches()
            await web.stop()


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory, drivers: DriverRegistry) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("endpoints")
    (root / "e" / "left" / "private-0").mkdir(parents=True)
    started: Future[Path] = Future()
    stop: Future[None] = Future()

    def main() -> None:
        try:
            asyncio.run(_serve(root, drivers, started, stop))
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
            raise

    thread = threading.Thread(target=main)
    thread.start()
    try:
        yield started.result(60)
    finally:
        stop.set_result(None)
        thread.join(60)


@pytest.fixture
def call(kubeconfig: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[object]:
    def act(*words: str) -> Result:
        capsys.readouterr()
        code = run(["--kubeconfig", str(kubeconfig), *words])
        out, err = capsys.readouterr()
        return Result(code, out, err)

    yield act
    for name in act("endpoint", "list", "-o", "name").out.split():
        act("endpoint", "remove", name.rpartition("/")[2])


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_the_first_minute(call) -> None:  # type: ignore[no-untyped-def]
    added = call("endpoint", "add", TEST)
    assert (added.code, added.err) == (0, "")
    assert added.out.startswith("endpoint local added: ")
    connected, pool, network = added.out.splitlines()
    assert connected.endswith(" is connected and has 1 domain")
    assert pool == "pool default-pool of the host is where disks go (storage class local)"
    assert network == "network default of the host is the network of machines"
    found = call("domains", "local")
    assert rows(found.out)[0] == ["NAME", "STATE", "DRIVER", "VCPUS", "MEMORY", "MANAGEMENT", "ADOPTABLE"]
    assert rows(found.out)[1][:6] == ["test", "running", "test", "2", "2Gi", "Foreign"]
    listed = rows(call("endpoint", "list").out)
    assert listed[0][:4] == ["NAME", "URI", "DRIVER", "READY"]
    assert listed[1][:7] == ["local", TEST, "test", "True", "Connected", "0", "1"]


def test_an_endpoint_is_shown_with_its_conditions(call) -> None:  # type: ignore[no-untyped-def]
    call("endpoint", "add", TEST, "--name", "shown")
    out = call("endpoint", "show", "shown").out
    assert "CPUs:         16, of which 14 can be used" in out
    assert "Domains:      0 managed, 1 foreign" in out
    assert [line.split()[:2] for line in out.splitlines() if line.startswith("Ready")] == [["Ready", "True"]]


def test_domains_in_every_format(call) -> None:  # type: ignore[no-untyped-def]
    call("endpoint", "add", TEST, "--name", "one")
    assert call("domains", "-o", "name").out == "one/test\n"
    (item,) = json.loads(call("domains", "one", "-o", "json").out)["items"]
    assert (item["endpoint"], item["name"], item["state"], item["vcpus"]) == ("one", "test", "running", 2)
    assert item["management"] == "Foreign"
    assert item["adoption"].keys() == {"possible", "reasons"}
    assert yaml.safe_load(call("domains", "one", "-o", "yaml").out)["items"] == [item]
    assert "UUID" in call("domains", "-o", "wide").out
    assert rows(call("domains").out)[1][0] == "one"


def test_domains_that_there_is_no_time_for_are_judged_later(  # type: ignore[no-untyped-def]
    call, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("endpoint", "add", TEST, "--name", "one")
    monkeypatch.setattr(endpoint_doors, "JUDGE_SECONDS", 0.0)
    assert rows(call("domains", "one").out)[1][6:] == ["not", "looked", "at", "yet"]
    monkeypatch.undo()
    told = call("domains", "one").out
    assert "not looked at" not in told
    monkeypatch.setattr(endpoint_doors, "JUDGE_SECONDS", 0.0)
    assert call("domains", "one").out == told  # what is known is told at once


def test_the_xml_of_a_domain_can_be_imported(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    call("endpoint", "add", TEST, "--name", "one")
    dumped = call("endpoint", "dumpxml", "one/test")
    assert dumped.code == 0
    assert "<name>test</name>" in dumped.out
    (tmp_path / "test.xml").write_text(dumped.out.replace("type='test'", "type='kvm'"))
    imported = call("import", "--dry-run", str(tmp_path / "test.xml"))
    assert "domain test" in imported.err
    assert call("endpoint", "dumpxml", "one/none").code == 4
    assert call("endpoint", "dumpxml", "one").code == 2


def test_a_host_that_is_away_says_so_and_what_to_do(call) -> None:  # type: ignore[no-untyped-def]
    added = call("endpoint", "add", AWAY, "--name", "away")
    assert added.code == 7
    assert "NoDaemon: Failed to connect socket to '/nonexistent/libvirt-sock': No such file or directory" in added.err
    assert "Start libvirt's daemon on the host" in added.err
    found = call("domains", "away")
    assert (found.code, found.out) == (7, "")
    assert "endpoint away is not ready, for " in found.err


def test_what_admission_refuses_is_said_and_nothing_is_made(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    refused = call("endpoint", "add", "qemu+ssh://root:pw@h/system", "--name", "bad")
    assert refused.code == 3
    assert "spec.uri: found a password" in refused.err
    refused = call("endpoint", "add", "qemu+ssh://root@h/system", "--name", "bad")
    assert "spec.credentials: required" in refused.err
    (tmp_path / "pw").write_text("w")
    with_password = ("-u", "a", "--password-file", str(tmp_path / "pw"))
    assert call("endpoint", "add", "nonsense://h/system", "--name", "bad", *with_password).code == 3
    assert call("get", "secret", "endpoint-bad", "-n", "kubevirt").code == 4
    assert "not found" in call("endpoint", "show", "bad").err


def test_credentials_come_from_files_and_go_with_the_endpoint(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "pw").write_text("secret-word\n")
    added = call("endpoint", "add", TEST, "--name", "kept", "-u", "admin", "--password-file", str(tmp_path / "pw"))
    assert added.code == 0
    secrets = json.loads(call("get", "secrets", "-n", "kubevirt", "-o", "json").out)["items"]
    (made,) = [one for one in secrets if one["metadata"]["name"] == "endpoint-kept"]
    assert made["metadata"]["labels"] == {"hypervisor.kubevirt.io/endpoint": "kept"}
    assert made["metadata"]["ownerReferences"][0]["kind"] == "HypervisorEndpoint"
    status = json.loads(call("endpoint", "show", "kept", "-o", "json").out)["status"]
    assert status["credentials"]["good"]["name"] == "endpoint-kept"
    assert "secret-word" not in json.dumps(status) + added.out
    events = json.loads(call("get", "events", "-A", "-o", "json").out)["items"]
    told = [event["reason"] for event in events if event["involvedObject"].get("name") == "kept"]
    assert "SecretNotFound" not in told
    again = call("endpoint", "add", TEST, "--name", "kept", "-u", "admin", "--password-file", str(tmp_path / "pw"))
    assert 'hypervisorendpoints.hypervisor.kubevirt.io "kept" already exists' in again.err
    missing = call("endpoint", "add", TEST, "--name", "other", "--password-file", str(tmp_path / "none"))
    assert missing.code == 2
    assert "cannot be read: No such file or directory" in missing.err


def test_what_a_former_process_left_is_removed(call, kubeconfig: Path) -> None:  # type: ignore[no-untyped-def]
    assert call("endpoint", "add", TEST, "--name", "new").code == 0
    assert not (kubeconfig.parent / "e" / "left").exists()


def test_there_is_nothing_without_endpoints(call) -> None:  # type: ignore[no-untyped-def]
    found = call("domains")
    assert (found.code, found.err.splitlines()[0]) == (4, "polyvisor: there are no endpoints")
    assert call("endpoint", "show", "none").code == 4
    assert call("endpoint", "remove", "none").code == 4


def test_a_removed_endpoint_is_gone_with_its_launcher(call, kubeconfig: Path) -> None:  # type: ignore[no-untyped-def]
    call("endpoint", "add", TEST, "--name", "gone")
    assert call("endpoint", "remove", "gone").out == "endpoint gone removed; nothing changes on its host\n"
    assert call("endpoint", "show", "gone").code == 4


def test_pools_and_networks_are_mapped_one_after_the_other(call) -> None:  # type: ignore[no-untyped-def]
    call("endpoint", "add", TEST, "--name", "one")
    assert call("endpoint", "map", "one").code == 2
    wrong = call("endpoint", "map", "one", "--storage", "fast")
    assert (wrong.code, wrong.err.splitlines()[0]) == (2, "polyvisor: --storage 'fast': expected CLASS=POOL")
    mapped = call("endpoint", "map", "one", "--storage", "fast=default-pool", "--network", "pod=default")
    assert mapped.out == "endpoint one maps fast=default-pool, pod=default\n"
    assert mapped.err == ""
    there = call("endpoint", "map", "one", "--storage", "fast=other", "--storage", "slow=default-pool")
    assert "The host has no pool 'other': it has default-pool." in there.err
    spec = json.loads(call("endpoint", "show", "one", "-o", "json").out)["spec"]
    pools = {item["storageClass"]: item["pool"] for item in spec["storage"]}
    assert (pools["fast"], pools["slow"]) == ("other", "default-pool")
    assert [item["network"] for item in spec["networks"] if item["name"] == "pod"] == ["default"]
    call("endpoint", "map", "one", "--network", "pod=lab")  # what is said of the other network is not said of this one
    spec = json.loads(call("endpoint", "show", "one", "-o", "json").out)["spec"]
    assert spec["networks"] == [{"name": "pod", "network": "lab"}]


def test_what_is_to_be_adopted_is_named(call) -> None:  # type: ignore[no-untyped-def]
    call("endpoint", "add", TEST, "--name", "one")
    assert "is not ENDPOINT/DOMAIN" in call("adopt", "one").err
    assert call("adopt", "one/none").code == 4
    assert call("adopt", "one/test", "--selector", "*").code == 2
    unfit = call("adopt", "one", "--selector", "web-*")
    assert (unfit.code, "has a name like 'web-*': it has test" in unfit.err) == (4, True)
    assert call("adopt", "one/test", "one/other", "--name", "x").code == 2


def test_only_what_is_on_an_endpoint_can_be_let_go_of(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert call("unmanage", "none").code == 4
    machine = tmp_path / "vm.yaml"
    machine.write_text(
        "apiVersion: kubevirt.io/v1\nkind: VirtualMachine\nmetadata: {name: here}\nspec:\n  runStrategy: Halted\n"
        "  template: {spec: {domain: {devices: {}, memory: {guest: 64Mi}}}}\n"
    )
    assert call("create", "-f", str(machine)).code == 0
    refused = call("unmanage", "here")
    assert (refused.code, "is not on an endpoint" in refused.err) == (3, True)
    assert call("get", "vm", "here").code == 0
