"""libvirt's own OpenVZ driver, through a launcher, on stand-ins for vzctl and vzlist: what it asks the tools to do.

The stand-ins keep a container's state in a file and write down their arguments. They stand in /usr/sbin of a private
mount namespace that also has a /proc/vz and an /etc/vz; nothing of the machine is touched.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api import VirtualMachineInstance
from polyvisor.api.resources import VMIS
from polyvisor.domain import DomainContext, domain_name, domain_uuid, render
from polyvisor.drivers import DriverRegistry, registry
from polyvisor.drivers.base import Driver
from polyvisor.testing.machines import instance
from tests.drivers.kit import Client, machine
from tests.needs import need_root

VZCTL = """#!/bin/sh
echo "vzctl $*" >> {work}/asked
case " $* " in
*" --help "*) echo "vzctl version 3.0.23"; exit 0;;
esac
[ "$1" = --quiet ] && shift
case $1 in
start) [ "$2" = destroy ] || echo running > {work}/state/$2;;
stop) echo stopped > {work}/state/$2;;
set) [ -e {work}/state/$2 ] || echo stopped > {work}/state/$2;;
esac
"""
VZLIST = """#!/bin/sh
case $1 in
-a) for f in {work}/state/*; do [ -e "$f" ] && printf '%10s %s\\n' "$(basename $f)" "$(cat $f)"; done;;
*) case $2 in -ostatus) cat {work}/state/$1;; *) echo "$1";; esac;;
esac
exit 0
"""
NAMESPACE = """set -e
mount -t tmpfs none {mount}
mkdir {mount}/sbin {mount}/sbinw {mount}/etc {mount}/etcw {mount}/real {mount}/proc
cp {work}/vzctl {work}/vzlist {mount}/sbin/
mkdir -p {mount}/etc/vz/conf
printf 'CONFIGFILE="basic"\\n' > {mount}/etc/vz/vz.conf
printf 'CPUS="1"\\n' > {mount}/etc/vz/conf/ve-basic.conf-sample
mount -t overlay none -o lowerdir=/usr/sbin,upperdir={mount}/sbin,workdir={mount}/sbinw /usr/sbin
mount -t overlay none -o lowerdir=/etc,upperdir={mount}/etc,workdir={mount}/etcw /etc
mount --bind /proc {mount}/real
for entry in /proc/*; do ln -s {mount}/real/${{entry#/proc/}} {mount}/proc/; done
ln -sf {mount}/real/$$ {mount}/proc/
mkdir {mount}/proc/vz
mount --bind {mount}/proc /proc
exec "$@"
"""


@pytest.fixture
def openvz() -> Driver:
    found = registry().get("openvz")
    assert found
    need_root()
    return found


@pytest.fixture
def work() -> Iterator[Path]:
    folder = Path(f"/tmp/pvo{os.getpid()}")
    (folder / "state").mkdir(parents=True)
    (folder / "mount").mkdir()
    (folder / "l").mkdir()
    (folder / "root").mkdir()
    for name, text in (("vzctl", VZCTL), ("vzlist", VZLIST)):
        (folder / name).write_text(text.format(work=folder))
        (folder / name).chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def launcher(openvz: Driver, work: Path) -> Iterator[tuple[Client, str]]:
    """A launcher in that namespace; yields a connection and the container's number, and ends it."""
    vmi = machine(openvz)
    uuid = domain_uuid(vmi)
    number = openvz.domain_name(domain_name(vmi), uuid)
    folder = work / "l"
    plan = {**asdict(openvz.launcher(folder)), "poll_seconds": 0.1, "protocol": 1}
    (folder / "plan.json").write_text(json.dumps({**plan, "domain": {"name": number, "uuid": uuid}}))
    script = NAMESPACE.format(work=work, mount=work / "mount")
    command = ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-m", "polyvisor.launcher", str(folder)]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        agent = Client(folder)
        assert agent.greeting["hello"]["hypervisorVersion"] == "3.0.23"
        xml = render(vmi, openvz, DomainContext("openvz", root=work / "root", root_volume="root"))
        assert agent.result("start", xml=xml)["state"] == "running"
        yield agent, number
        agent.ask("quit")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


DEFINE = """
import json, sys, libvirt
libvirt.registerErrorHandler(lambda _, error: None, None)
connection = libvirt.open("openvz:///system")
for line in sys.stdin:
    try:
        connection.defineXML(json.loads(line))
        print("")
    except libvirt.libvirtError as error:
        print(error.get_error_message())
"""


def drawn(openvz: Driver, seed: str) -> Iterator[dict[str, Any]]:
    """Yield containers that ask for what the table has and for what it has not; admission judges."""
    random = Random(f"openvz {seed}")
    root: dict[str, Any] = {"name": "root", "containerDisk": {"image": "localhost/root:1"}}
    words: dict[str, Any] = {"name": "words", "cloudInitNoCloud": {"userData": "#cloud-config"}}
    for _ in range(300):
        domain: dict[str, Any] = {"devices": {}, "memory": {"guest": random.choice(("64Mi", "1500M", "2.1Gi"))}}
        domain["cpu"] = random.choice(({}, {"cores": 2}, {"cores": 1028}, {"cores": 1029}, {"sockets": 2}))
        domain["cpu"] |= random.choice(({}, {}, {"model": "host-passthrough"}, {"maxSockets": 4}))
        domain["clock"] = random.choice(({}, {"utc": {}}, {"timezone": "Europe/Berlin"}))
        domain["features"] = random.choice(({}, {}, {"acpi": {}}))
        more = random.choice(([], [words], [{"name": "two", "containerDisk": {"image": "localhost/two:1"}}]))
        yield instance(openvz, {"domain": domain, "volumes": [root, *more]})


def test_libvirt_takes_what_is_admitted(openvz: Driver, work: Path) -> None:
    context, lines, limited = AdmissionContext({}, DriverRegistry([openvz])), [], False
    for number, obj in enumerate(drawn(openvz, os.environ.get("POLYVISOR_COMBINATIONS_SEED", "1"))):
        obj["metadata"]["uid"] = str(UUID(int=number + 1))
        outcome = admit("CREATE", VMIS, obj, None, context)
        limited |= any(problem.feature == "limit.cpus" for problem in outcome.problems)
        if outcome.problems:
            continue
        prepared = DomainContext("openvz", root=work / "root", root_volume="root")
        xml = render(VirtualMachineInstance.model_validate(outcome.obj), openvz, prepared)
        lines.append(json.dumps(re.sub(r"<name>\d+</name>", f"<name>{5000 + number}</name>", xml)))
    assert limited
    assert len(lines) > 10, "most are refused, so the test says little"
    script = NAMESPACE.format(work=work, mount=work / "mount")
    command = ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-c", DEFINE]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=True, timeout=300)
    answers = done.stdout.splitlines()
    assert answers == [""] * len(lines)


def test_a_container_is_made_run_and_stopped(openvz: Driver, work: Path) -> None:
    with launcher(openvz, work) as (agent, number):
        assert agent.result("pause")["state"] == "paused"
        assert agent.result("resume")["state"] == "running"
        agent.result("shutdown")
        assert agent.until("shutoff")["reason"] == "shutdown"
    asked = [line for line in (work / "asked").read_text().splitlines() if "--help" not in line]
    assert asked[:6] == [
        f"vzctl --quiet set {number} --cpus 1 --save",
        f"vzctl --quiet set {number} --kmemsize {96 * 1024 * 1024} --save",
        f"vzctl --quiet start {number}",
        f"vzctl --quiet chkpnt {number} --suspend",
        f"vzctl --quiet chkpnt {number} --resume",
        f"vzctl --quiet stop {number}",
    ]


def test_a_container_that_stops_by_itself_is_noticed_without_events(openvz: Driver, work: Path) -> None:
    with launcher(openvz, work) as (agent, number):
        (work / "state" / number).write_text("stopped\n")
        assert agent.until("shutoff")
