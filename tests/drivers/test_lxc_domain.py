"""The domain of a container: its ids, its folders as the hook is to mount them, what it may not do and not see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lxml import etree

from polyvisor.domain import render
from polyvisor.domain.ids import EACH, TRIAL
from polyvisor.drivers.lxc import HIDDEN, TAKEN, LxcDriver
from polyvisor.drivers.lxc.mounts import PLACES
from polyvisor.drivers.lxc.plan import launcher_plan
from polyvisor.launcher.mapped import MAPPED
from polyvisor.launcher.syscalls import NUMBERS
from polyvisor.testing.schema import flaws
from tests.drivers.kit import context, machine

DRIVER = LxcDriver()
CONTEXT = replace(context(DRIVER, "lxc"), root=Path("/made/root"), folders={"data": Path("/made/data")})


def domain(**changes: object) -> etree._Element:
    text = render(machine(DRIVER), DRIVER, replace(CONTEXT, **changes))  # type: ignore[arg-type]
    assert flaws(text) == []
    return etree.fromstring(text)


def test_a_container_has_the_ids_of_its_machine() -> None:
    found = domain(first_id=0x70010000)
    expected = {"start": "0", "target": str(0x70010000), "count": str(EACH)}
    assert [(child.tag, dict(child.attrib)) for child in found.iterfind("idmap/*")] == [
        ("uid", expected),
        ("gid", expected),
    ]


def test_no_container_is_without_a_user_namespace() -> None:
    """Whoever renders a domain and names no ids gets a container with those that no machine has."""
    assert domain().xpath("string(idmap/uid/@target)") == str(TRIAL)


def test_the_hook_is_told_which_folder_is_seen_where() -> None:
    found = domain()
    told = {one.get("place"): dict(one.attrib) for one in found.find("metadata").iter(MAPPED)}  # type: ignore[union-attr]
    seen = {one.find("target").get("dir"): one.find("source").get("dir") for one in found.iter("filesystem")}  # type: ignore[union-attr]
    assert seen == {"/": f"{PLACES}/0", "/mnt/data": f"{PLACES}/1"}
    assert {place: one["source"] for place, one in told.items()} == {
        f"{PLACES}/0": "/made/root",
        f"{PLACES}/1": "/made/data",
    }
    assert not any("shifted" in one for one in told.values())


def test_a_root_that_has_the_ids_on_disk_is_not_mapped() -> None:
    metadata = domain(shifted=True).find("metadata")
    assert metadata is not None
    assert {one.get("source"): one.get("shifted") for one in metadata.iter(MAPPED)} == {
        "/made/root": "yes",
        "/made/data": None,
    }


def test_capabilities_of_the_whole_kernel_are_taken_and_that_of_sandboxes_is_left() -> None:
    capabilities = domain().find("features/capabilities")
    assert capabilities is not None
    assert capabilities.get("policy") == "default"
    assert {one.tag: one.get("state") for one in capabilities} == dict.fromkeys(TAKEN, "off")
    assert {"sys_rawio", "sys_module", "dac_read_search", "mknod"} <= set(TAKEN)
    assert "sys_admin" not in TAKEN


def test_what_the_kernel_tells_is_covered_by_something_empty() -> None:
    found = domain(hidden=HIDDEN)
    covered = {one.find("target").get("dir"): one for one in found.iter("filesystem")}  # type: ignore[union-attr]
    for path in HIDDEN:
        one = covered[path.rstrip("/")]
        assert one.find("readonly") is not None
        source = one.find("source")
        assert source is not None
        if path.endswith("/"):
            assert (one.get("type"), source.get("usage")) == ("ram", "4")
        else:
            assert (one.get("type"), source.get("dir")) == ("mount", "/dev/null")


def test_the_plan_forbids_calls_that_have_a_number_and_never_asks_by_initctl(tmp_path: Path) -> None:
    plan = launcher_plan(tmp_path)
    assert set(plan.forbidden) <= set(NUMBERS)
    assert {"init_module", "kexec_load", "open_by_handle_at", "keyctl", "userfaultfd", "bpf"} <= set(plan.forbidden)
    assert not any("initctl" in way for way in plan.shutdown)
