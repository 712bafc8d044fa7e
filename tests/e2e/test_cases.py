"""Inputs from the field on a whole standalone installation: what becomes of the machines, and what their guests see.

Each manifest is applied as it is. Guests say ``RES NAME VALUE`` on their console and ``RES done`` at the end. A case
without an expectation is held to the rest: no machine is Ready with a guest that says nothing, and none waits without
a reason. What was seen is printed (``pytest -rP``).
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cases.folders import Case, cases

from .standalone import Standalone, standalone

pytestmark = [pytest.mark.e2e, pytest.mark.proof]

Obj = dict[str, Any]
EVERY = {case.id: case for case in cases() if any(one.get("kind") == "VirtualMachine" for one in case.objects())}
SAID = re.compile(r"^RES (\S+) ?(.*?)\s*$", re.MULTILINE)
SECONDS = 90
SETTLED = {"ErrorUnschedulable", "CrashLoopBackOff", "Stopped", "ErrorPvcNotFound", "ErrImagePull", "ImagePullBackOff"}


@pytest.fixture(scope="module")
def home() -> Iterator[Standalone]:
    with standalone() as home:
        home.run("up")
        try:
            yield home
        finally:
            home.run("down")


def get(home: Standalone, *words: str) -> Obj:
    return dict(json.loads(home.run("get", *words, "-o", "json")))


def told(home: Standalone, vm: Obj) -> str:
    """Return all that is said of a machine: its conditions, its instance's, and the Events of both."""
    name = vm["metadata"]["name"]
    said = [str(c.get("message") or "") for c in (vm.get("status") or {}).get("conditions") or []]
    for event in get(home, "events").get("items") or []:
        if event["involvedObject"].get("name") == name:
            said.append(str(event.get("message")))
    return "\n".join(said)


def applied(home: Standalone, path: Path) -> str:
    """Apply a manifest; return why it was refused, or nothing."""
    try:
        home.run("apply", "-f", path)
    except AssertionError as error:
        return str(error)
    return ""


def console(home: Standalone, name: str) -> dict[str, str]:
    """Return what the guest has said so far."""
    try:
        text = home.run("logs", name)
    except AssertionError:
        return {}
    return dict(SAID.findall(text.replace("\r", "")))


def watched(home: Standalone, name: str, speaks: bool) -> tuple[Obj, dict[str, str]]:
    """Return the machine, and what its guest said, once it has said all or will not come up."""
    deadline = time.monotonic() + SECONDS
    while True:
        vm, said = get(home, "vm", name), console(home, name) if speaks else {}
        status = (vm.get("status") or {}).get("printableStatus")
        over = "done" in said if status == "Running" and speaks else status in {*SETTLED, "Running"}
        if over or time.monotonic() > deadline:
            return vm, said
        time.sleep(1)  # what is waited for is of many kinds, and some never comes


@pytest.mark.parametrize("id", EVERY)
def test_what_becomes_of_a_case(id: str, home: Standalone) -> None:
    case = EVERY[id]
    path = home.folder / "case.yaml"
    path.write_text(case.text(str(home.folder / "hostdisks" / "default")))
    refusal = applied(home, path)
    if refusal:
        sys.stdout.write(f"{refusal}\n")
        assert "refused" in refusal
        assert case.expected.get("admission") in (None, "refused"), refusal
        return
    assert case.expected.get("admission") in (None, "accepted")
    try:
        check(case, home)
    finally:
        home.run("delete", "-f", path)


def check(case: Case, home: Standalone) -> None:
    """Watch each machine of a case, and hold it to what is expected of the first."""
    machines = [obj for obj in case.objects() if obj["kind"] == "VirtualMachine"]
    for number, machine in enumerate(machines):
        name = machine["metadata"]["name"]
        speaks = "RES done" in json.dumps(machine)
        vm, said = watched(home, name, speaks)
        status, words = (vm.get("status") or {}).get("printableStatus"), told(home, vm)
        sys.stdout.write(f"{name}: {status}\n{said}\n{words}\n")
        if speaks and status == "Running":
            assert "done" in said, f"{name} runs and its guest said no more than {said}"
        if status not in ("Running", "Stopped"):
            assert words.strip(), f"{name} is {status} without a word"
        if number:
            continue
        for key, value in (case.expected.get("guest") or {}).items():
            assert said.get(key) == value
        wanted_state = case.expected.get("machine") or {}
        assert status == wanted_state.get("status", status)
        for one in wanted_state.get("says") or []:
            assert one in words
