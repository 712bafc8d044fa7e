"""What a launcher does to domains of a host, and to whose: asked of libvirt's own test driver."""

from __future__ import annotations

import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from polyvisor.launcher.endpoint.consoles import Consoles
from polyvisor.launcher.endpoint.domains import Domains
from polyvisor.launcher.endpoint.owned import MARK, Refused, owner_of
from polyvisor.launcher.endpoint.volumes import Volumes

OURS = {"cluster": "ours", "machine": "m1"}


def xml(name: str, id_: str, *, cluster: str = "ours", machine: str = "m1", marked: bool = True) -> str:
    mark = f"<metadata><p:owner xmlns:p='{MARK}' cluster='{cluster}' machine='{machine}'/></metadata>" if marked else ""
    rest = "<memory>1024</memory><vcpu>1</vcpu><os><type>hvm</type></os>"
    return f"<domain type='test'><name>{name}</name><uuid>{id_}</uuid>{mark}{rest}</domain>"


class Asked:
    """The operations on a host of libvirt's test driver."""

    def __init__(self, connection: Any, logs: Path) -> None:
        self.connection = connection
        domains = Domains(lambda: connection, _record, Consoles(logs, lambda: connection.newStream(0)))
        self.operations = {**domains.operations, **Volumes(lambda: connection).operations}

    def __call__(self, operation: str, **arguments: Any) -> dict[str, Any]:
        return self.operations[operation](arguments)

    def refused(self, operation: str, **arguments: Any) -> str:
        with pytest.raises(Refused) as found:
            self(operation, **arguments)
        return found.value.code


def _record(domain: Any, id_: str) -> dict[str, Any]:
    return {"uuid": id_, "active": bool(domain.isActive()), "state": domain.state()[0]}


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Asked]:
    connection = libvirt.open("test:///default")
    yield Asked(connection, tmp_path)
    for domain in connection.listAllDomains(0):
        if domain.name() != "test":
            if domain.isActive():
                domain.destroy()
            if domain.isPersistent():
                domain.undefine()
    connection.close()


@pytest.fixture
def id_() -> str:
    return str(uuid.uuid4())


def test_the_life_of_a_machines_domain(ask: Asked, id_: str) -> None:
    assert ask("define", xml=xml("a", id_), **OURS) == {"uuid": id_, "name": "a"}
    assert ask("define", xml=xml("a", id_), **OURS)["uuid"] == id_  # a second time changes nothing
    owner = {"uuid": id_, **OURS}
    assert ask("start", **owner)["active"]
    ask("pause", **owner)
    assert ask("state", uuid=id_)["state"] == libvirt.VIR_DOMAIN_PAUSED
    assert ask.refused("undefine", **owner) == "active"
    assert ask("shutdown", **owner, ways=["agent", "default"])["step"] >= 1
    assert not ask("state", uuid=id_)["active"]
    ask("undefine", **owner)
    assert ask.refused("state", uuid=id_) == "no-domain"
    assert ask("undefine", **owner) == {}


@pytest.mark.parametrize(
    "operation",
    ["start", "follow", "shutdown", "destroy", "pause", "resume", "reboot", "reset", "undefine", "unmark"],
)
@pytest.mark.parametrize("whose", [{"marked": False}, {"cluster": "theirs"}, {"machine": "m2"}])
def test_nothing_is_done_to_a_domain_of_somebody_else(
    ask: Asked, id_: str, operation: str, whose: dict[str, Any]
) -> None:
    domain = ask.connection.defineXML(xml("a", id_, **whose))
    domain.create()
    before = domain.XMLDesc(0)
    assert ask.refused(operation, uuid=id_, **OURS) == "foreign"
    assert ask.refused("define", xml=xml("a", id_), **OURS) == "foreign"
    assert domain.isActive()
    assert domain.XMLDesc(0) == before


def test_a_name_that_another_domain_has_is_told_apart_from_a_domain_of_others(ask: Asked, id_: str) -> None:
    ask.connection.defineXML(xml("a", id_, marked=False))
    assert ask.refused("define", xml=xml("a", str(uuid.uuid4())), **OURS) == "name-taken"


def test_a_mark_is_written_where_there_is_none_and_taken_away_again(ask: Asked, id_: str) -> None:
    domain = ask.connection.defineXML(xml("a", id_, marked=False))
    domain.create()
    mark = "<owner cluster='{}' machine='m1'/>"
    assert ask.refused("mark", uuid=id_, mark=mark.format("theirs"), **OURS) == "bad-request"
    ask("mark", uuid=id_, mark=mark.format("ours"), **OURS)
    assert ask("state", uuid=id_)["active"]
    ask("pause", uuid=id_, **OURS)
    ask("unmark", uuid=id_, **OURS)
    assert ask.refused("resume", uuid=id_, **OURS) == "foreign"


def test_a_domain_of_another_installation_is_not_marked(ask: Asked, id_: str) -> None:
    ask.connection.defineXML(xml("a", id_, cluster="theirs"))
    mark = "<owner cluster='ours' machine='m1'/>"
    assert ask.refused("mark", uuid=id_, mark=mark, **OURS) == "foreign"


def test_volumes_of_others_are_neither_made_over_nor_deleted(ask: Asked) -> None:
    volume = "<volume><name>{}</name><capacity>1048576</capacity></volume>"
    ask.connection.storagePoolLookupByName("default-pool").createXML(volume.format("theirs.img"), 0)
    assert ask.refused("delete-volume", pool="default-pool", name="theirs.img") == "foreign"
    assert ask.refused("create-volume", pool="default-pool", xml=volume.format("theirs2.img")) == "foreign"
    for name in (
        "polyvisor-a/../theirs.img",
        "polyvisor-a/theirs.img",
        "theirs/polyvisor-a",
        "polyvisor-a/polyvisor-b/c",
    ):
        assert ask.refused("delete-volume", pool="default-pool", name=name) == "foreign"
    assert ask("delete-volume", pool="default-pool", name="polyvisor-a/polyvisor-a.vmdk") == {}
    made = ask("create-volume", pool="default-pool", xml=volume.format("polyvisor-a.raw"))
    assert (made["name"], made["capacity"]) == ("polyvisor-a.raw", 1 << 20)
    assert ask("volume", pool="default-pool", name="polyvisor-a.raw")["path"] == made["path"]
    ask("delete-volume", pool="default-pool", name="polyvisor-a.raw")
    assert ask("delete-volume", pool="default-pool", name="polyvisor-a.raw") == {}
    assert ask.refused("volume", pool="default-pool", name="polyvisor-a.raw") == "no-volume"
    assert ask.refused("pool", pool="none") == "no-pool"


@pytest.mark.parametrize(
    ("description", "owner"),
    [
        (f"<p:owner xmlns:p='{MARK}' cluster='ours' machine='m1'/>", {"cluster": "ours", "machine": "m1"}),
        ("the web server", {}),
        ("<b>the web server</b>", {}),
        ("<owner cluster='ours' machine='m1'/>", {}),
        (f"<!DOCTYPE a><p:owner xmlns:p='{MARK}' cluster='ours'/>", {}),
        ("<owner", {}),
        (None, {}),
    ],
)
def test_where_libvirt_has_no_metadata_the_mark_is_the_description(
    description: str | None, owner: dict[str, str]
) -> None:
    class Domain:
        """As much of a domain of such a driver as is asked for its mark."""

        def metadata(self, *_: Any) -> str:
            error = libvirt.libvirtError("no metadata")
            error.err = (libvirt.VIR_ERR_NO_SUPPORT, 0, "", 2, "", "", "", 0, 0)
            raise error

        def XMLDesc(self, _: int) -> str:
            root = ET.Element("domain")
            if description is not None:
                ET.SubElement(root, "description").text = description
            return ET.tostring(root, encoding="unicode")

    assert owner_of(Domain()) == owner


def test_the_mark_of_another_machine_is_replaced_only_where_the_agent_says_that_its_time_is_over(
    ask: Asked, id_: str
) -> None:
    domain = ask.connection.defineXML(xml("a", id_, machine="m2"))
    mark = "<owner cluster='ours' machine='m1'/>"
    assert ask.refused("mark", uuid=id_, mark=mark, **OURS) == "foreign"
    assert ask.refused("mark", uuid=id_, mark=mark, before="m3", **OURS) == "foreign"
    assert owner_of(domain)["machine"] == "m2"
    ask("mark", uuid=id_, mark=mark, before="m2", **OURS)
    assert owner_of(domain)["machine"] == "m1"
