"""What a launcher makes of its plan before it opens libvirt, and in which namespaces its daemon runs."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

from polyvisor import launcher
from polyvisor.drivers.base import LauncherPlan
from polyvisor.launcher.daemon import strange_groups
from polyvisor.launcher.plan import read_plan


def test_files_name_the_launchers_own_user(tmp_path: Path) -> None:
    plan = LauncherPlan(uri="test:///default", files={"etc/one.conf": 'user = "+@UID@"\ngroup = "+@GID@"\n'})
    domain = {"name": "one", "uuid": "11111111-2222-4333-8444-555555555555"}
    (tmp_path / "plan.json").write_text(json.dumps({**asdict(plan), "protocol": 1, "domain": domain}))
    read_plan(tmp_path).prepare()
    expected = f'user = "+{os.geteuid()}"\ngroup = "+{os.getegid()}"\n'
    assert (tmp_path / "etc/one.conf").read_text() == expected


def test_a_text_that_begins_as_a_program_is_one(tmp_path: Path) -> None:
    files = {"etc/hook": '#!/bin/sh\nexec @PYTHON@ -c "print(1)" # @LAUNCHER@\n', "etc/one.conf": "plain\n"}
    plan = LauncherPlan(uri="test:///default", files=files)
    domain = {"name": "one", "uuid": "11111111-2222-4333-8444-555555555555"}
    (tmp_path / "plan.json").write_text(json.dumps({**asdict(plan), "protocol": 1, "domain": domain}))
    read_plan(tmp_path).prepare()
    assert subprocess.run([tmp_path / "etc/hook"], capture_output=True, check=True).stdout == b"1\n"
    assert str(Path(launcher.__file__).parent) in (tmp_path / "etc/hook").read_text()
    assert not os.access(tmp_path / "etc/one.conf", os.X_OK)


@pytest.mark.parametrize(
    ("groups", "strange"),
    [
        ("4:memory:/kubepods/pod1/c1\n0::/\n", True),
        ("4:memory:/\n1:name=systemd:/\n", False),
        ("4:memory:/there\n", False),
        ("1:name=systemd:/kubepods/pod1\n", True),
        ("9:misc:/of/a/controller/that/is/not/mounted\n", False),
        ("0::/system.slice/one\n", False),
    ],
)
def test_control_groups_seen_from_inside_a_container(tmp_path: Path, groups: str, strange: bool) -> None:
    for folder in ("memory/there", "systemd"):
        (tmp_path / folder).mkdir(parents=True)
    assert strange_groups(groups, tmp_path) == strange
