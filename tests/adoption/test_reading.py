"""The XML comes from strangers: what it must not do, and what is said of text that is no domain."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyvisor.adoption import ConversionError, Mapping, convert, convert_all
from polyvisor.adoption.reading import MAX_BYTES, MAX_DEPTH, MAX_DOMAINS, domains_of

ONE = "<domain type='kvm'><name>{}</name><memory unit='MiB'>64</memory><os><type>hvm</type></os></domain>"


def refusal(text: str | bytes) -> str:
    with pytest.raises(ConversionError) as caught:
        domains_of(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("  \n", "is empty"),
        ("kind: VirtualMachine", "is not valid XML: Start tag expected"),
        ("<domain type='kvm'><name>x</domain>", "is not valid XML: Opening and ending tag mismatch"),
        ("<network><name>default</name></network>", "is the XML of a <network>; the XML of a <domain> is expected"),
        ("<domains/>", "is the XML of a <domains>; the XML of a <domain> is expected"),
        ("<domains><pool/></domains>", "<pool> is no domain"),
        (b"\xff\xfe\x00", "is not valid XML"),
        (b"<domain><name>\xe9</name></domain>", "is not valid XML"),
    ],
)
def test_text_that_is_no_domain_is_refused_with_one_sentence(text: str | bytes, said: str) -> None:
    assert said in refusal(text)


def test_document_types_and_entities_are_refused_and_files_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    outside = f"<!DOCTYPE domain [<!ENTITY x SYSTEM 'file://{secret}'>]><domain><name>&x;</name></domain>"
    assert "document type" in refusal(outside)
    rounds = "".join(f"<!ENTITY a{n} '&a{n - 1};&a{n - 1};'>" for n in range(1, 40))
    laughs = f"<!DOCTYPE domain [<!ENTITY a0 'ha'>{rounds}]><domain><name>&a39;</name></domain>"
    assert refusal(laughs)
    assert "document type" in refusal(f"<!DOCTYPE domain SYSTEM 'file://{secret}'><domain><name>x</name></domain>")


def test_size_depth_and_number_have_limits() -> None:
    assert "larger than 4 MiB" in refusal(ONE.format("x" * MAX_BYTES))
    deep = "<a>" * MAX_DEPTH + "</a>" * MAX_DEPTH
    assert f"nested deeper than {MAX_DEPTH}" in refusal(f"<domain>{deep}</domain>")
    assert "more than 20000 elements" in refusal(f"<domain>{'<a/>' * 20_001}</domain>")
    assert f"at most {MAX_DOMAINS} are accepted" in refusal(f"<domains>{'<domain/>' * (MAX_DOMAINS + 1)}</domains>")


@pytest.mark.parametrize(
    "text",
    [
        ONE.format("a") + ONE.format("b"),
        "<?xml version='1.0'?>\n<!-- a -->\n" + ONE.format("a") + "\n<?xml version='1.0'?>" + ONE.format("b"),
        f"<domains>{ONE.format('a')}{ONE.format('b')}</domains>",
    ],
)
def test_several_domains_may_stand_in_one_text(text: str) -> None:
    assert [one.domain for one in convert_all(text, Mapping())] == ["a", "b"]
    with pytest.raises(ConversionError, match="has 2 domains"):
        convert(text, Mapping())


@pytest.mark.parametrize(
    ("kind", "guest", "driver", "said"),
    [
        ("uml", "uml", "", "no driver has domains of type 'uml'; known types: bhyve"),
        ("vz", "exe", "", "domains of type 'vz' have os type hvm; this one has 'exe'"),
        ("vmware", "hvm", "", "drivers esx and vmware both have domains of type 'vmware'; name the driver"),
        ("kvm", "hvm", "qmeu", "no driver has the name 'qmeu'; known: qemu, .*; did you mean qemu?"),
        ("kvm", "hvm", "xen", "a domain of type 'kvm' with os type 'hvm' is none of driver xen"),
    ],
)
def test_a_driver_that_cannot_be_found_is_explained(kind: str, guest: str, driver: str, said: str) -> None:
    text = f"<domain type='{kind}'><name>a</name><os><type>{guest}</type></os></domain>"
    with pytest.raises(ConversionError, match=said):
        convert(text, Mapping(driver=driver))


def test_a_domain_without_a_name_is_refused() -> None:
    with pytest.raises(ConversionError, match="has no <name>"):
        convert("<domain type='kvm'><os><type>hvm</type></os></domain>", Mapping())
