"""A guest whose memory is in huge pages of the host: what the host says of it, and what is said where there are few."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .huge_pages import MIB, count, set_aside
from .installation import eventually
from .standalone import Standalone, bare_machine, standalone

pytestmark = [pytest.mark.e2e, pytest.mark.proof]

PAGES = 64
SECONDS = 180


def machine(name: str, pages: int) -> dict[str, Any]:
    memory = {"guest": f"{pages * MIB}Mi", "hugepages": {"pageSize": "2Mi"}}
    return bare_machine(name, memory=memory)


@pytest.fixture
def host() -> Iterator[Standalone]:
    with set_aside(PAGES), standalone() as one:
        try:
            one.run("up")
            yield one
        finally:
            one.run("down")


def condition(host: Standalone, name: str) -> str:
    status = json.loads(host.run("get", "vmi", name, "--output=json")).get("status", {})
    return " ".join(str(one.get("message")) for one in status.get("conditions", []))


def test_a_guest_has_the_pages_that_are_set_aside_and_no_more(host: Standalone) -> None:
    free = count("free")
    host.run_machines(machine("huge", PAGES))
    assert count("free") == free - PAGES
    (qemu,) = host.processes("qemu-system", "_huge")
    told = re.search(r"HugetlbPages:\s+(\d+) kB", Path(f"/proc/{qemu}/status").read_text())
    assert told
    assert int(told[1]) == PAGES * MIB * 1024

    path = host.folder / "more.json"
    path.write_text(json.dumps(machine("more", 2)))
    host.run("apply", "--filename", path)
    words = "2 more are wanted; set them aside by: echo"
    eventually(lambda: words in condition(host, "more"), SECONDS, lambda: condition(host, "more"))

    host.run("delete", "vmi", "huge")
    eventually(lambda: count("free") >= free - 2, SECONDS)
    eventually(lambda: host.processes("qemu-system", "_more"), SECONDS, lambda: condition(host, "more"))
    host.run("delete", "vmi", "more")
