"""A lane's result in a driver's proof file."""

from __future__ import annotations

import tomllib
from dataclasses import replace

from tests.lab.record import recorded
from tests.lab.results import Result, Step

FILE = """\
# What was proved.

[wire]
status = "exempt"
reason = "none"

[real]
status = "done"
what = "features"
show = "pytest tests"

[[real.lab]]
lane = "other"
date = "2026-11-30"
against = "a host"
what = "it ran"
"""
DONE = Result("kvm", "qemu", {"QEMU": "7.2"}, (Step("boot", 12.0, 'says "login:"'), Step("stop", 1.0)), "", 61.4, 99)


def test_a_result_becomes_an_entry_beside_the_others() -> None:
    labs = tomllib.loads(recorded(FILE, DONE, "2026-12-01"))["real"]["lab"]
    assert [lab["lane"] for lab in labs] == ["other", "kvm"]
    assert labs[1]["against"] == "QEMU 7.2 (emulated machine)"
    assert labs[1]["what"] == 'boot: says "login:"; stop (`make lab LANES=kvm`, 61 s)'


def test_what_was_seen_is_cut_where_it_is_long() -> None:
    long = Result("kvm", "qemu", steps=(Step("list", 1.0, f"Domain-0   running {'x' * 200}"),))
    (lab,) = tomllib.loads(recorded("[real]\n", long, "2026-12-01"))["real"]["lab"]
    assert lab["what"].startswith("list: Domain-0 running xxx")
    assert "xxx ... (`make lab" in lab["what"]


def test_the_next_result_of_a_lane_takes_the_place_of_its_last() -> None:
    once = recorded(FILE, DONE, "2026-12-01")
    assert recorded(once, DONE, "2026-12-01") == once
    labs = tomllib.loads(recorded(once, replace(DONE, seconds=70), "2026-12-02"))["real"]["lab"]
    assert [(lab["lane"], str(lab["date"])) for lab in labs] == [("other", "2026-11-30"), ("kvm", "2026-12-02")]


def test_the_rest_of_the_file_stays() -> None:
    assert recorded(FILE, DONE, "2026-12-01").startswith(FILE.rstrip())
