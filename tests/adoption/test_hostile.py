"""Odd values in every place: a conversion ends with a machine or with one sentence, never with a traceback."""

from __future__ import annotations

import json
import shlex
from random import Random
from typing import TYPE_CHECKING

import pytest
from lxml import etree

from polyvisor.adoption import ConversionError, Mapping, NetworkMapping, PoolMapping, convert
from polyvisor.api.names import KEPT_ANNOTATION
from tests.adoption.test_dialects import DIALECTS, HEAD, NETWORKS, POOLS
from tests.adoption.test_libvirt import DOMAINS

if TYPE_CHECKING:
    from lxml.etree import _Element

ODD = (
    *("", " ", "0", "-1", "1" * 30, "999999999999999999", "1e9", "0x10", "\u0663", "\u00b2", "NaN", "yes", "on", "a/b"),
    *("../../etc/passwd", "/", "[", "[x", "[x]", "C:", "D:\\", "a" * 300, "\u202e", "<&\"'>", "ua-", "ua-nic_", "none"),
)
XML = {
    **{id_: f"<domain type='{one.kind}'>{HEAD}{one.xml}</domain>" for id_, one in DIALECTS.items()},
    **{id_: f"<domain type='kvm'><name>m</name>{xml}</domain>" for id_, xml in DOMAINS.items()},
}
MAPPING = Mapping(
    storage=(*POOLS, PoolMapping("fast", "libvirt", "/var/lib/libvirt/images")),
    networks=(*NETWORKS, NetworkMapping("infra/lan", "default")),
    kernel_image="registry/kernel:1",
)
ROUNDS = 60


def spoil(draw: Random, domain: _Element) -> None:
    """Change, remove or double something below the domain."""
    element = draw.choice([one for one in domain.iter() if one is not domain])
    parent = element.getparent()
    assert parent is not None
    match draw.randrange(5):
        case 0 if element.attrib:
            element.set(draw.choice(sorted(map(str, element.attrib))), draw.choice(ODD))
        case 1 if element.attrib:
            del element.attrib[draw.choice(sorted(map(str, element.attrib)))]
        case 2:
            parent.remove(element)
        case 3:
            parent.append(etree.fromstring(etree.tostring(element)))
        case _:
            element.text = draw.choice(ODD)


@pytest.mark.parametrize("id_", XML)
def test_spoiled_domains_end_well(id_: str) -> None:
    for number in range(ROUNDS):
        draw = Random(f"{id_} {number}")
        domain = etree.fromstring(XML[id_])
        for _ in range(draw.randint(1, 4)):
            spoil(draw, domain)
        text = etree.tostring(domain)
        refusals = []
        try:
            found = convert(text, MAPPING)
        except ConversionError as error:
            refusals.append(str(error))
        if refusals:
            assert "\n" not in refusals[0], text
            continue
        assert found.machine["spec"]["runStrategy"] == "Halted"
        lost = json.loads(found.machine["metadata"].get("annotations", {}).get(KEPT_ANNOTATION, "{}"))
        assert lost == found.kept
        assert len({volume["metadata"]["name"] for volume in found.volumes}) == len(found.volumes), text
        assert len(found.volumes) == len(found.claims)
        for volume in found.volumes:
            path = volume["spec"]["csi"]["volumeAttributes"]["path"]
            assert ".." not in path.split("/"), text


def crowded(count: int, device: str) -> str:
    return (
        f"<domain type='kvm'><name>m</name>{HEAD}<os><type>hvm</type></os><devices>{device * count}</devices></domain>"
    )


CARD = "<interface type='network'><source network='default'/><model type='virtio'/></interface>"
DISK = "<disk type='file'><source file='/var/lib/libvirt/images/{n}'/><target dev='vd{n}' bus='virtio'/></disk>"


@pytest.mark.parametrize("count", [1, 300])
def test_a_domain_with_more_devices_than_a_board_has_places_ends_well(count: int) -> None:
    """The conversion draws the machine that it makes; where that has no room left, it says so and nothing waits."""
    disks = "".join(DISK.format(n=number) for number in range(count))
    found = convert(crowded(1, disks), MAPPING)
    assert len(found.volumes) <= count
    assert bool(found.causes) == (count > 1)


@pytest.mark.parametrize("device", [CARD, "<odd/>", DISK])
def test_a_domain_of_thousands_of_devices_is_refused_before_anything_is_made_of_it(device: str) -> None:
    with pytest.raises(ConversionError, match="has 513 devices; at most 512"):
        convert(crowded(513, device), MAPPING)


EVIL = "x; touch /tmp/evil $(id) `id`"
PLACED = {
    "a disk's folder": f"<disk type='file'><source file='/{EVIL}/a'/><target dev='vda' bus='virtio'/></disk>",
    "a disk's pool": f"<disk type='volume'><source pool='{EVIL}' volume='a'/><target dev='vda' bus='virtio'/></disk>",
    "a network": f"<interface type='network'><source network='{EVIL}'/><model type='virtio'/></interface>",
}


@pytest.mark.parametrize("pools", [None, {"images": "/images"}], ids=["a file", "an endpoint"])
@pytest.mark.parametrize("device", PLACED.values(), ids=PLACED)
def test_a_command_that_is_shown_does_what_it_says_and_no_more(device: str, pools: dict[str, str] | None) -> None:
    """Who follows the advice pastes it into a shell; what the domain calls its parts is a stranger's text."""
    given = Mapping(driver="qemu", endpoint="rack4", pools=pools) if pools else Mapping()
    causes = convert(crowded(1, device), given).causes
    advice = [one for one in causes if "map" in one]
    assert advice
    for one in advice:
        told = one[one.rindex("--") :]
        words = shlex.split(told.replace(", where NAME is pod or a network", "").rstrip(")"))
        assert len(words) == 2, told
