"""A remote hypervisor that lies: what it tells is cut, left out or refused, and nobody else is harmed by it."""

from __future__ import annotations

import asyncio
import json
import socket
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.platform.endpoint import keeper as keeper_module
from polyvisor.agent.platform.endpoint import telling
from polyvisor.agent.platform.endpoint.host_node import HostNode, architecture_of, probed
from polyvisor.agent.platform.endpoint.inventory import Domain, HostInfo, host_of
from polyvisor.agent.platform.endpoint.keeper import MAX_DOMAINS, rest_after
from polyvisor.agent.platform.endpoint.link import MAX_LOG, HostError
from polyvisor.agent.platform.endpoint.plan import Observed, status_of
from polyvisor.agent.platform.endpoint.pools import Pool, Pools
from polyvisor.api import Obj
from polyvisor.drivers import registry
from tests.agent.platform.endpoint.conftest import Watched, endpoint
from tests.agent.platform.endpoint.hostile import CONNECTED, Answers, Launchers
from tests.agent.platform.endpoint.test_telling import endpoint as mapping
from tests.agent.platform.endpoint.test_telling import machine

MAC = "02:00:00:00:00:01"
ENTITIES = "".join(f"<!ENTITY e{n} '{f'&e{n - 1};' * 10 if n else 'ha'}'>" for n in range(10))
CAPABILITIES = {
    "with entities": f"<!DOCTYPE x [{ENTITIES}]><capabilities><host><cpu><arch>&e9;</arch></cpu></host></capabilities>",
    "with an encoding": "<?xml version='1.0' encoding='UTF-7'?><capabilities/>",
    "cut": "<capabilities><host><cpu><arch>x86_64",
    "deep": "<a>" * 100_000,
    "not XML": "\x00\xff",
    "with an odd architecture": "<capabilities><host><cpu><arch>x'] | //*['</arch></cpu></host></capabilities>",
}


@pytest.fixture
def launchers(monkeypatch: pytest.MonkeyPatch) -> Launchers:
    found = Launchers({"connect": CONNECTED})
    monkeypatch.setattr(keeper_module, "HostLink", found)
    return found


def listing(*pages: list[Any]) -> Answers:
    """Answer ``domains`` with these pages, whose offsets are their numbers."""

    def answer(asked: Obj) -> Obj:
        number = asked["offset"]
        return {"domains": pages[number], "next": number + 1 if number + 1 < len(pages) else 0}

    return {"connect": CONNECTED, "domains": answer}


def told(number: int, **more: Any) -> Obj:
    return {"uuid": f"{number:08x}-0000-4000-8000-000000000000", "name": f"d{number}", "state": "running", **more}


@pytest.mark.parametrize("capabilities", CAPABILITIES.values(), ids=CAPABILITIES)
async def test_a_host_that_describes_itself_in_hostile_xml_is_connected_once(
    watched: Watched, launchers: Launchers, capabilities: str
) -> None:
    """What cannot be read is not there. A launcher whose answers fail must not be left behind for each try."""
    asked = {"host": capabilities, "domain": capabilities or "<x/>", "cpu": ""}
    launchers.answers = {"connect": {**CONNECTED, "capabilities": capabilities}, "capabilities": asked}
    watched.start(endpoint("qemu+unix:///system"))
    seen = await watched.connected()
    assert (len(launchers.started), launchers.running) == (1, 1)
    driver = registry().get("qemu")
    assert driver is not None
    assert probed(driver, seen).available
    assert architecture_of(capabilities) == ""
    assert seen.host is not None
    assert seen.host.guest_cpus is None
    await watched.keeper.stop()
    assert launchers.running == 0


async def test_names_of_cpus_that_are_none_do_not_become_labels(watched: Watched, launchers: Launchers) -> None:
    guest = (
        "<guest><os_type>hvm</os_type><arch name='x86_64'><domain type='qemu'/><machine>pc\n</machine></arch></guest>"
    )
    host = f"<capabilities><host><cpu><arch>x86_64</arch></cpu></host>{guest}</capabilities>"
    names = ["Nehalem", "a/b", "x" * 100, "", *(f"m{number}" for number in range(5000))]
    models = "".join(f"<model usable='yes'>{name}</model>" for name in names)
    domain = f"<domainCapabilities><cpu><mode name='custom'>{models}</mode></cpu></domainCapabilities>"
    launchers.answers = {
        "connect": {**CONNECTED, "capabilities": host},
        "capabilities": {"host": host, "domain": domain, "cpu": ""},
    }
    watched.start(endpoint("qemu+unix:///system"))
    seen = await watched.connected()
    assert seen.host is not None
    cpus = seen.host.guest_cpus
    assert cpus is not None
    assert {"a/b", "", "x" * 100}.isdisjoint(cpus.models)
    assert "Nehalem" in cpus.models
    assert len(cpus.models) <= 2048
    assert cpus.machines == ()


async def test_a_list_without_end_ends(watched: Watched, launchers: Launchers) -> None:
    def endless(asked: Obj) -> Obj:
        offset = asked["offset"]
        return {"domains": [told(offset + number) for number in range(1000)], "next": offset + 1000}

    launchers.answers = {"connect": CONNECTED, "domains": endless}
    watched.start(endpoint("qemu+unix:///system"))
    seen = await watched.connected()
    assert seen.domains is not None
    assert len(seen.domains) == MAX_DOMAINS


@pytest.mark.parametrize("page", [{"domains": [], "next": 1}, {"domains": [1, "x"], "next": 9}, {"next": 5}, {}])
async def test_a_list_of_nothing_that_goes_on_ends(watched: Watched, launchers: Launchers, page: Obj) -> None:
    launchers.answers = {"connect": CONNECTED, "domains": page}
    watched.start(endpoint("qemu+unix:///system"))
    assert (await watched.connected()).domains == ()


async def test_domains_in_odd_shapes_are_cut_or_left_out(watched: Watched, launchers: Launchers) -> None:
    odd = [
        *(None, 1, [], {}, {"uuid": 7}, {"uuid": "../../etc/passwd", "name": "x"}),
        told(1, name="\x1b]0;owned\x07\u202e" + "n" * 5000, id=True, vcpus=-1, memoryBytes=1 << 80, state={}),
        told(1, name="again"),
        told(2, id=10**30, mark="<owner cluster='" + "c" * 200 + "' machine='m'/>", persistent=1, reason=[]),
    ]
    launchers.answers = listing(odd, [told(3)])
    watched.start(endpoint("qemu+unix:///system"))
    seen = await watched.connected()
    assert seen.domains is not None
    assert [one.name for one in seen.domains] == ["again", "d2", "d3"]
    assert seen.domains[1] == Domain(told(2)["uuid"], "d2", -1, "running", 0, 0, persistent=False, machine="m")
    launchers.answers = listing([odd[6]])
    other = await asyncio.wait_for(_listed(watched, launchers), 60)
    assert len(other.name) <= 255
    assert other.name.isprintable()
    assert (other.id, other.vcpus, other.memory, other.state) == (-1, 0, 0, "unknown")


async def _listed(watched: Watched, launchers: Launchers) -> Domain:
    """Have the domains listed anew, by a connection that was lost."""
    launchers.started[0].ended.set()
    await watched.keeper._drop()
    watched.keeper._wake.set()
    seen = await watched.until(lambda seen: bool(seen.domains) and len(seen.domains or ()) == 1)
    assert seen.domains is not None
    return seen.domains[0]


@pytest.mark.parametrize("version", ["x.y", "9", "1." * 9000, "-1.0.0", "\u0663.1", None, 9, {}])
def test_a_version_that_is_none_keeps_no_status_from_being_written(version: Any) -> None:
    host = host_of({**CONNECTED, "libvirtVersion": version, "hypervisorVersion": version})
    status = status_of(endpoint("qemu:///system"), Observed("qemu", host=host, domains=()), "now")
    assert len(json.dumps(status)) < 10_000


class Broken:
    """An API server that is there, and a Node that was made."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def get(self, *_: Any) -> Obj:
        self.asked.set()
        raise ValueError("whatever a host's words lead to")


async def test_a_node_goes_on_after_what_nobody_foresaw() -> None:
    client = Broken()
    node = HostNode(client, endpoint("qemu:///system"), "")  # type: ignore[arg-type]
    node.observed(endpoint("qemu:///system"), Observed("qemu", host=HostInfo()), None)
    life = asyncio.create_task(node.run())
    await client.asked.wait()
    client.asked.clear()
    node.observed(endpoint("qemu:///system", management="Full"), Observed("qemu", host=HostInfo()), None)
    await asyncio.wait_for(client.asked.wait(), 30)
    assert not life.done()
    life.cancel()


def addressed(cidr: str, *addresses: Any) -> list[str]:
    new: Obj = {"interfaces": [{"name": "default", "mac": MAC}]}
    says = [{"mac": MAC, "addresses": list(addresses)}]
    telling.addressed(new, machine(), mapping({"name": "pod", "network": "n", "cidrs": [cidr]}), says)
    return list(new["interfaces"][0].get("ipAddresses", []))


def test_an_address_outside_of_cidrs_is_never_shown() -> None:
    lies = ["169.254.169.254", "127.0.0.1", "10.21.0.1", "::ffff:10.20.0.1", "10.20.0.1/16", "0x0a140001", "", None, 7]
    assert addressed("10.20.0.0/16", *lies, "10.20.0.7") == ["10.20.0.7"]


def test_a_zone_is_no_way_to_write_into_a_status() -> None:
    """What follows the percent sign of an IPv6 address may be any text."""
    assert addressed("fd00::/8", "fd00::1%\x1b[2J<script>", "fd00::1%" + "x" * 100_000, "FD00:0::2") == ["fd00::2"]


def test_of_thousands_of_addresses_a_few_are_shown() -> None:
    assert len(addressed("10.0.0.0/8", *(f"10.0.{n // 256}.{n % 256}" for n in range(60_000)))) == 32
    new: Obj = {"interfaces": []}
    says = [{"mac": MAC, "addresses": ["10.0.0.1"] * 1000}] * 10_000
    assert telling.addressed(new, machine(), mapping(), says) == ""


def own_address() -> str:
    """Return an address of this machine that is no loopback address, where it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return "127.0.0.2"
        return str(probe.getsockname()[0])


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "0.0.0.0", "169.254.169.254", "224.0.0.1", "::1", "fe80::1", "own"],
)
def test_an_address_that_means_this_machine_is_never_connected_to(address: str) -> None:
    """Also where the administrator allowed all addresses: a lease of a host can name anything."""
    address = own_address() if address == "own" else address
    everything = "::/0" if ":" in address else "0.0.0.0/0"
    network = {"name": "pod", "network": "n", "cidrs": [everything], "reachable": True}
    vmi = machine(interfaces=[{"name": "default", "mac": MAC}])
    says = [{"mac": MAC, "addresses": [address]}]
    assert telling.reachable(vmi, mapping(network), says) == ""
    guest = "fd00::7" if ":" in address else "192.0.2.7"
    assert telling.reachable(vmi, mapping(network), [{"mac": MAC, "addresses": [address, guest]}]) == guest
    assert ip_network(everything)


def test_a_pod_has_an_address_only_by_the_hosts_word() -> None:
    network = {"name": "pod", "network": "n", "cidrs": ["10.20.0.0/16"]}
    vmi = machine(interfaces=[{"name": "default", "mac": MAC}])
    says = [{"mac": MAC, "addresses": ["10.21.0.1", "10.20.0.7"]}]
    assert telling.of_host(vmi, mapping(network), says) == "10.20.0.7"
    assert telling.of_host(vmi, mapping(network), None) == ""


class Asked:
    """A keeper whose host answers with one thing."""

    def __init__(self, answer: Obj) -> None:
        self.endpoint = endpoint("qemu:///system")
        self._answer = answer

    async def ask(self, *_: Any, **__: Any) -> Obj:
        return self._answer

    async def every(self, *_: Any, **__: Any) -> list[Obj]:
        return [self._answer]


@pytest.mark.parametrize("lie", ["", "a\nb", "\x1b[2J", "x" * 5000, None, 7, ["p"]])
@pytest.mark.parametrize("field", ["path", "name", "format"])
async def test_a_volume_with_a_path_that_cannot_be_one_is_refused(field: str, lie: Any) -> None:
    volume = {"name": "polyvisor-v", "path": "/p", "format": "raw", "capacity": 1, field: lie}
    with pytest.raises(HostError, match="that can be used"):
        await Pools(Asked(volume)).make(Pool("p", "dir", 1), "polyvisor-v", "raw", 1)  # type: ignore[arg-type]


async def test_only_names_that_were_asked_for_are_deleted() -> None:
    for lie in ("other", "polyvisor-u-\n", None, "x" * 5000):
        pools = Pools(Asked({"name": lie}))  # type: ignore[arg-type]
        assert await pools.names("p", "polyvisor-u-") == []
    assert await Pools(Asked({"name": "polyvisor-u-a"})).names("p", "polyvisor-u-") == ["polyvisor-u-a"]  # type: ignore[arg-type]


async def test_words_of_a_host_are_told_without_what_a_terminal_obeys(tmp_path: Path) -> None:
    launchers = Launchers({})
    link = await launchers.start(tmp_path, tmp_path, lambda _: None)
    try:
        link._pending[1] = asyncio.get_running_loop().create_future()
        link._message({"id": 1, "error": {"message": "no\x1b]0;owned\x07\nway"}})
        with pytest.raises(HostError) as refused:
            await link._pending[1]
        assert str(refused.value) == "no ]0;owned \nway"
    finally:
        await link.close()


async def test_a_host_that_tells_of_changes_without_end_is_looked_at_for_a_part_of_the_time(
    watched: Watched, launchers: Launchers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop goes round by the clock here, so that its turns can be counted without waiting for them."""
    asleep: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        asleep.append(seconds)
        await real(0)

    monkeypatch.setattr(keeper_module.asyncio, "sleep", sleep)
    ticks = iter(range(10_000))
    monkeypatch.setattr(keeper_module, "_now", lambda: float(next(ticks)))
    launchers.answers = listing([told(1)])
    watched.start(endpoint("qemu+unix:///system"))
    await watched.connected()
    for _ in range(3):
        watched.keeper._told({"type": "domain"})
        await real(0.01)
    rests = [seconds for seconds in asleep if seconds]
    assert rests
    assert all(seconds >= rest_after(1.0) for seconds in rests)


def test_a_rest_is_longer_than_the_look_before_it_and_has_an_end() -> None:
    assert rest_after(0.0) == 0.0
    assert rest_after(1.0) > 1.0
    assert rest_after(1e6) == rest_after(1e9) <= 60.0


async def test_what_a_host_has_libvirt_log_does_not_fill_the_disk(tmp_path: Path) -> None:
    """Each refusal of a host is logged, and its text may have megabytes."""
    log = tmp_path / "launcher.log"

    def refuse(_: Obj) -> Obj:
        with log.open("ab") as file:
            file.write(b"x" * (4 << 20))
        return {}

    launchers = Launchers({"state": refuse})
    link = await launchers.start(tmp_path / "private", log, lambda _: None)
    try:
        for _ in range(20):
            await link.request("state", 60)
            assert log.stat().st_size <= MAX_LOG
    finally:
        await link.close()
