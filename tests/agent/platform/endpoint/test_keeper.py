"""Endpoints on libvirt's test driver: connection, domains, events, and what stays nowhere."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from polyvisor.agent.platform.endpoint.link import HostError
from polyvisor.drivers.base import Driver
from tests.agent.platform.endpoint.conftest import Watched, endpoint, secret

TEST = "test:///default"


async def test_a_host_is_connected_and_its_domains_are_listed(watched: Watched) -> None:
    watched.start(endpoint(TEST))
    seen = await watched.connected()
    assert seen.driver == "test"
    assert seen.host is not None
    assert (seen.host.type, seen.host.cpus, seen.host.events) == ("test", 16, True)
    assert [(one.name, one.state, one.vcpus, one.memory) for one in seen.domains or ()] == [
        ("test", "running", 2, 2 << 30)
    ]
    assert seen.domains is not None
    told = await watched.keeper.ask("describe", uuid=seen.domains[0].uuid)
    assert "<name>test</name>" in told["xml"]
    assert [pool["name"] for pool in (await watched.keeper.ask("pools"))["pools"]] == ["default-pool"]
    assert [network["name"] for network in (await watched.keeper.ask("networks"))["networks"]] == ["default"]


async def test_what_the_host_refuses_is_an_error_with_its_words(watched: Watched) -> None:
    watched.start(endpoint(TEST))
    await watched.connected()
    with pytest.raises(HostError, match="Domain not found"):
        await watched.keeper.ask("describe", uuid="00000000-0000-4000-8000-000000000000")
    with pytest.raises(HostError, match="uuid: a text is expected"):
        await watched.keeper.ask("describe", uuid=7)
    with pytest.raises(HostError, match="unknown operation"):
        await watched.keeper.ask("destroy-everything")


async def test_nothing_is_changed_while_another_agent_may_look_after_the_host(watched: Watched) -> None:
    watched.start(endpoint(TEST))
    seen = await watched.connected()
    assert seen.domains
    owner = {"uuid": seen.domains[0].uuid, "cluster": "ours", "machine": "m"}
    watched.may_write = False
    for operation in ("define", "start", "destroy", "undefine", "mark", "create-volume", "delete-volume"):
        with pytest.raises(HostError, match=f"{operation}: another agent may look after the host") as error:
            await watched.keeper.ask(operation, **owner)
        assert error.value.code == "not-ours"
    with pytest.raises(HostError, match="another agent"):
        await watched.keeper.stream(op="upload", pool="default-pool", name="v")
    assert "<name>test</name>" in (await watched.keeper.ask("describe", uuid=owner["uuid"]))["xml"]
    watched.may_write = True
    with pytest.raises(HostError, match="mark") as refused:
        await watched.keeper.ask("destroy", **owner)
    assert refused.value.code == "foreign"


async def test_a_launcher_that_is_killed_is_replaced(watched: Watched) -> None:
    watched.start(endpoint(TEST))
    await watched.connected()
    first = watched.keeper.launcher_pid
    os.kill(first, signal.SIGKILL)
    await watched.until(lambda seen: watched.keeper.launcher_pid not in (0, first) and seen.failure is None)


async def test_an_agent_that_ends_leaves_no_launcher(watched: Watched) -> None:
    watched.start(endpoint(TEST))
    await watched.connected()
    pid = watched.keeper.launcher_pid
    await watched.keeper.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_password_is_in_no_file_argument_or_environment(watched: Watched) -> None:
    word = "s3cret-of-the-test"
    watched.start(endpoint(TEST, secret=True), secret(password=word, username="u"))
    await watched.connected()
    process = Path("/proc") / str(watched.keeper.launcher_pid)
    assert word not in (process / "cmdline").read_text() + (process / "environ").read_text()
    assert word not in repr(watched.saved[-1])
    folder = watched.keeper.folder
    assert [path for path in folder.rglob("*") if path.is_file() and word in path.read_text()] == []


async def test_a_changed_object_leads_to_another_host(watched: Watched) -> None:
    watched.start(endpoint("qemu+unix:///system?socket=/nonexistent/libvirt-sock"))
    seen = await watched.failed("NoDaemon")
    assert seen.failure is not None
    assert seen.failure.message == "Failed to connect socket to '/nonexistent/libvirt-sock': No such file or directory"
    watched.keeper.update(endpoint(TEST), None)
    assert (await watched.connected()).driver == "test"


async def test_a_secret_that_is_missing_or_another_endpoints_is_said_and_awaited(watched: Watched) -> None:
    watched.start(endpoint(TEST, secret=True))
    seen = await watched.failed("SecretNotFound")
    assert seen.failure is not None
    assert seen.failure.message == "there is no Secret s in namespace kubevirt"
    watched.keeper.update(endpoint(TEST, secret=True), secret(name="other"))
    await watched.failed("SecretNotLabelled")
    watched.keeper.update(endpoint(TEST, secret=True), secret(2))
    seen = await watched.connected()
    assert seen.good is not None
    assert seen.good.version == "2"


async def test_nothing_is_asked_of_a_host_that_is_away(watched: Watched) -> None:
    watched.start(endpoint("qemu+unix:///system?socket=/nonexistent/libvirt-sock"))
    await watched.failed("NoDaemon")
    with pytest.raises(HostError, match="Failed to connect socket"):
        await watched.keeper.ask("pools")


async def test_the_loop_goes_on_while_a_host_is_slow(watched: Watched) -> None:
    watched.start(endpoint("qemu+tcp://192.0.2.1/system", tls={"insecure": "Allow"}))
    for _ in range(20):
        await asyncio.sleep(0)
    assert watched.saved == []  # the connection is still being tried, and this line is reached


async def test_a_driver_says_which_domain_is_the_host_itself(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Driver, "own_domain", "the-host")
    watched.start(endpoint(TEST))
    assert (await watched.connected()).itself == "the-host"
