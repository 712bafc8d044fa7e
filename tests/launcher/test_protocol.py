"""The protocol and its refusals, over libvirt's own in-memory driver; nothing of a hypervisor is needed."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyvisor.drivers.base import LauncherPlan
from tests.drivers.kit import Bench, Client

UUID = "11111111-2222-4333-8444-555555555555"
XML = f"""<domain type='test'><name>ns_vm</name><uuid>{UUID}</uuid><memory>8192</memory>
<os><type>hvm</type></os></domain>"""


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(f"/tmp/pvl{os.getpid()}")
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o700)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def one(folder: Path) -> Iterator[Bench]:
    bench = Bench(folder, LauncherPlan(uri="test:///default", start_paused=False), "ns_vm", UUID)
    yield bench
    bench.close()


def _run(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "polyvisor.launcher", str(folder)], capture_output=True, text=True, timeout=20
    )


def test_life(one: Bench) -> None:
    agent = one.launch()
    assert agent.greeting["hello"] | {"version": 1, "driver": "test"} == agent.greeting["hello"]
    assert agent.result("state")["state"] == "none"
    assert agent.result("start", xml=XML)["state"] == "running"
    assert agent.result("start", xml=XML)["state"] == "running"
    described = agent.result("describe")
    assert described["state"] == "running"
    assert f"<uuid>{UUID}</uuid>" in described["xml"]
    assert agent.result("pause")["state"] == "paused"
    assert agent.result("resume")["state"] == "running"
    assert json.loads((one.folder / "state.json").read_text())["state"] == "running"
    watcher = Client(one.folder)
    agent.result("shutdown")
    assert watcher.until("shutoff")["reason"] == "shutdown"


def test_a_hypervisor_that_gives_uuids_of_its_own_is_known_by_name(folder: Path) -> None:
    bench = Bench(folder, LauncherPlan(uri="test:///default", own_uuids=True), "ns_vm", "another")
    agent = bench.launch()
    assert agent.result("start", xml=XML)["state"] == "running"
    assert agent.result("state")["state"] == "running"
    agent.result("shutdown")
    assert agent.until("shutoff")["reason"] == "shutdown"
    bench.close()


def test_socket_is_for_its_owner_alone(one: Bench) -> None:
    one.launch()
    assert stat.S_IMODE((one.folder / "launcher.sock").stat().st_mode) == 0o600


@pytest.mark.parametrize("hello", [{"hello": {"versions": [99]}}, {"hello": 1}, {"op": "state", "id": 1}, [1]])
def test_a_version_that_is_not_spoken_is_refused(one: Bench, hello: object) -> None:
    one.launch()
    answer = Client(one.folder, hello).greeting  # type: ignore[arg-type]
    assert answer["error"]["code"] in ("version", "bad-request")


def test_unknown_operations_and_bad_lines_are_errors(one: Bench) -> None:
    agent = one.launch()
    assert agent.ask("levitate")["error"]["code"] == "unknown-op"
    agent.socket.sendall(b"{half\n")
    assert agent.read()["error"]["code"] == "bad-request"
    assert agent.result("state")["state"] == "none"


def test_a_client_that_hangs_in_the_middle_of_a_line_holds_up_nobody(one: Bench) -> None:
    agent = one.launch()
    hanging = Client(one.folder)
    hanging.socket.sendall(b'{"id": 1, "op": "st')
    assert agent.result("start", xml=XML)["state"] == "running"
    hanging.socket.sendall(b'ate"}\n')
    assert hanging.until("running")["state"] == "running"


def test_a_line_without_end_is_cut_off_and_the_others_stay(one: Bench) -> None:
    agent = one.launch()
    endless = Client(one.folder)
    with pytest.raises(ConnectionError):
        endless.socket.sendall(b"x" * 12 * 1024 * 1024)
    assert agent.result("state")["state"] == "none"


@pytest.mark.root
def test_another_user_is_not_served(one: Bench) -> None:
    agent = one.launch()
    one.folder.chmod(0o755)
    (one.folder / "launcher.sock").chmod(0o777)
    talk = (
        "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        'try:\n s.sendall(b\'{"hello": {"versions": [1]}}\\n\'); print(s.recv(100))\n'
        "except OSError: print(b'')\n"
    )
    command = [sys.executable, "-c", talk, str(one.folder / "launcher.sock")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr) == ("b''\n", "")
    lines = [json.loads(line) for line in (one.folder / "launcher.log").read_text().splitlines()]
    assert "refused a connection of user 65534" in [line["message"] for line in lines]
    for line in lines:
        assert line["time"]
        assert (line["component"], line["domain"], line["uuid"]) == ("virt-launcher", "ns_vm", UUID)
    assert agent.result("state")["state"] == "none"


def test_what_libvirt_refuses_comes_back_in_its_words(one: Bench) -> None:
    agent = one.launch()
    error = agent.ask("start", xml="<domain type='test'><name>ns_vm</name></domain>")["error"]
    assert error["code"] == "libvirt"
    assert error["message"]
    assert agent.result("start", xml=XML)["state"] == "running"


def test_xml_of_another_domain_is_refused(one: Bench) -> None:
    agent = one.launch()
    error = agent.ask("start", xml=XML.replace("ns_vm", "other"))["error"]
    assert error["code"] == "identity"


@pytest.mark.parametrize("op", ["shutdown", "pause", "resume", "console", "describe"])
def test_without_a_domain_there_is_nothing_to_do(one: Bench, op: str) -> None:
    assert one.launch().ask(op)["error"]["code"] == "no-domain"


def test_a_second_launcher_is_refused(one: Bench) -> None:
    agent = one.launch()
    second = _run(one.folder)
    assert second.returncode == 2
    assert "another launcher" in second.stderr
    assert agent.result("state")["state"] == "none"


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ("", "not whole JSON"),
        ('{"protocol": 1, "uri"', "not whole JSON"),
        ("[]", "an object"),
        ('{"protocol": 2}', "protocol 2"),
        ('{"protocol": 1}', "'domain'"),
        ('{"protocol":1,"uri":"test:///default","domain":{"name":"a","uuid":"b"},"files":{"../x":"y"}}', "leaves"),
    ],
)
def test_a_plan_that_cannot_be_used_is_one_sentence(folder: Path, plan: str, says: str) -> None:
    (folder / "plan.json").write_text(plan)
    ended = _run(folder)
    assert ended.returncode == 2
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr
