"""A host that tells more than its launcher can carry, or what no parser should read."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import libvirt
import pytest

from polyvisor.launcher.endpoint.__main__ import MAX_ANSWER, Speaker
from polyvisor.launcher.endpoint.files import PrivateFiles
from polyvisor.launcher.endpoint.host import Host
from polyvisor.launcher.endpoint.owned import MARK, Refused, owner_of
from polyvisor.launcher.endpoint.told import found_in, page, root_of
from polyvisor.launcher.endpoint.volumes import Volumes

LONG = "\U0001f4a3" * (1 << 20)
ENTITIES = "".join(f"<!ENTITY e{n} '{f'&e{n - 1};' * 10 if n else 'ha'}'>" for n in range(10))
BOMB = f"<!DOCTYPE x [{ENTITIES}]><x><target><path>&e9;</path><format type='&e9;'/></target></x>"
OTHERS = ["", "<x>", "<x/><y/>", "no XML", "<x>&nothing;</x>", "\x00"]


class Thing:
    """A domain, pool, volume or network of a hostile host."""

    def __init__(self, number: int, xml: str = "<x/>", name: str = LONG) -> None:
        self._number = number
        self._xml = xml
        self._name = name

    def name(self) -> str:
        return f"{self._number}-{self._name}"

    path = name

    def UUIDString(self) -> str:
        return f"{self._number:08x}-0000-4000-8000-000000000000"

    def ID(self) -> int:
        return 1

    def info(self) -> list[int]:
        return [libvirt.VIR_DOMAIN_RUNNING, 1 << 40, 1 << 40, 7, 0]

    def isPersistent(self) -> int:
        return 1

    isActive = isPersistent

    def metadata(self, *_: Any) -> str:
        return f"<owner xmlns='{MARK}' cluster='ours' machine='{LONG}'/>"

    def XMLDesc(self, _: int) -> str:
        return self._xml


class Volume(Thing):
    def info(self) -> list[int]:
        return [libvirt.VIR_STORAGE_VOL_FILE, 1, 1]


class Pool(Thing):
    def __init__(self, volumes: list[Any], xml: str = "<x/>") -> None:
        super().__init__(0, xml, "")
        self._volumes = volumes

    def info(self) -> list[int]:
        return [libvirt.VIR_STORAGE_POOL_RUNNING, 1, 1, 1]

    def refresh(self, _: int) -> None:
        pass

    def listAllVolumes(self, _: int) -> list[Any]:
        return self._volumes

    def listVolumes(self) -> list[str]:
        return [one.name() for one in self._volumes]

    def storageVolLookupByName(self, name: str) -> Any:
        return next(one for one in self._volumes if one.name() == name)


class Connection:
    """libvirt's connection to such a host."""

    def __init__(self, *things: Any) -> None:
        self._things = list(things)

    def listAllDomains(self, _: int) -> list[Any]:
        return self._things

    listAllNetworks = listAllStoragePools = listAllDomains

    def listStoragePools(self) -> list[str]:
        return []

    listDefinedStoragePools = listStoragePools

    def storagePoolLookupByName(self, _: str) -> Any:
        return self._things[0]


def host(tmp_path: Path, *things: Any) -> Host:
    found = Host(PrivateFiles(tmp_path / "f"), lambda _: None, tmp_path)
    found._connection = Connection(*things)
    return found


def every(operation: Any, key: str, **asked: Any) -> list[Any]:
    """Ask for all pages; each of them has to fit into a message."""
    found: list[Any] = []
    offset, pages = 0, 0
    while True:
        answer = operation({**asked, "offset": offset})
        assert len(json.dumps({"id": 1, "result": answer})) < MAX_ANSWER
        found += answer[key]
        pages += 1
        assert pages <= 1000, "the list has no end"
        if not (offset := answer["next"]):
            return found


def test_thousands_of_domains_with_endless_names_and_marks_fit_into_messages(tmp_path: Path) -> None:
    asked = host(tmp_path, *(Thing(number) for number in range(3)), *(Thing(n, name="n" * 300) for n in range(3, 4000)))
    found = every(asked.operations["domains"], "domains")
    assert [one["uuid"][:8] for one in found] == [f"{number:08x}" for number in range(4000)]
    assert {len(one["name"]) for one in found} == {255}
    assert {one["mark"] for one in found} == {""}


def test_thousands_of_networks_pools_and_volumes_fit_into_messages(tmp_path: Path) -> None:
    things = [Thing(number, name="n" * 200) for number in range(6000)]
    assert len(every(host(tmp_path, *things).operations["networks"], "networks")) == 6000
    volumes = [Volume(number, name="n" * 200) for number in range(6000)]
    asked = Volumes(lambda: Connection(Pool(volumes))).operations
    assert len(every(asked["volumes"], "volumes", pool="p")) == 6000
    assert len(every(asked["volume-names"], "volumes", pool="p", prefix="17")) == 1 + 10 + 100
    pools = [Pool([]) for _ in range(6000)]
    assert len(every(host(tmp_path, *pools).operations["pools"], "pools")) == 6000


def test_a_path_that_is_too_long_is_no_path_not_half_of_one() -> None:
    asked = Volumes(lambda: Connection(Pool([Volume(1), Volume(2, name="a")]))).operations
    assert [one["path"] for one in every(asked["volumes"], "volumes", pool="p")] == ["", "2-a"]


@pytest.mark.parametrize("xml", [BOMB, *OTHERS], ids=range(len(OTHERS) + 1))
def test_xml_that_is_no_plain_xml_is_refused_or_counts_as_nothing(tmp_path: Path, xml: str) -> None:
    with pytest.raises(Refused) as refused:
        root_of(xml)
    assert refused.value.code == "bad-xml"
    assert found_in(xml, "target/path") == ""
    asked = Volumes(lambda: Connection(Pool([Volume(1, xml, "a")], xml))).operations
    assert every(asked["pools"], "pools")[0]["path"] == ""
    for operation, arguments in (("pool", {}), ("volume", {"name": "1-a"})):
        with pytest.raises(Refused):
            asked[operation]({"pool": "p", **arguments})
    with pytest.raises(Refused):
        host(tmp_path, Thing(1, xml)).operations["networks"]({})


@pytest.mark.parametrize("xml", [BOMB, *OTHERS], ids=range(len(OTHERS) + 1))
def test_a_domain_described_by_such_xml_has_no_mark(xml: str) -> None:
    class Undescribed(Thing):
        def metadata(self, *_: Any) -> str:
            error = libvirt.libvirtError("no metadata")
            error.err = (libvirt.VIR_ERR_NO_SUPPORT, 0, "", 0, "", "", "", 0, 0)
            raise error

    assert owner_of(Undescribed(1, xml)) == {}


def test_a_mark_of_a_megabyte_is_none() -> None:
    assert owner_of(Thing(1)) == {}


@pytest.mark.parametrize("offset", [-1, "1", None, 1.5])
def test_an_offset_is_a_number(offset: Any) -> None:
    with pytest.raises(Refused):
        page([1], {"offset": offset}, lambda _: {})


def test_an_answer_that_is_too_long_becomes_an_error_and_the_connection_stays() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        speaker = Speaker(theirs)
        speaker.say({"id": 7, "result": {"xml": "x" * MAX_ANSWER}})
        speaker.say({"id": 8, "result": {}})
        lines = ours.makefile("rb")
        first, second = json.loads(lines.readline()), json.loads(lines.readline())
    assert (first["id"], first["error"]["code"]) == (7, "too-long")
    assert second == {"id": 8, "result": {}}
