"""A real libvirt that judges domains for QEMU without starting them: its embedded driver, in a process of its own.

``domxml-to-native`` does all that a start does before a process is made: parsing, filling in, validation, addresses,
firmware, the command line. It takes about a millisecond.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from lxml import etree

from polyvisor.drivers.base import LauncherPlan
from polyvisor.drivers.qemu.plan import QEMU_CONF
from polyvisor.launcher.plan import read_plan


class Judgement(NamedTuple):
    """What libvirt says: why it refuses, or the domain as it understands it and QEMU's command line."""

    refusal: str
    xml: str = ""
    command: str = ""


class Judge:
    """The process; one domain after the other."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, xml: str) -> Judgement:
        """Return what libvirt says of one domain."""
        return Judgement(*self._ask(xml))

    def cards(self) -> set[str]:
        """Return the graphics cards that domains of its QEMU can have, as libvirt names them."""
        models = etree.fromstring(self._ask("")[0]).iterfind("devices/video/enum[@name='modelType']/value")
        return {model.text or "" for model in models}

    def _ask(self, xml: str) -> list[str]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(xml) + "\n")
        self._process.stdin.flush()
        return list(json.loads(self._process.stdout.readline()))


@contextmanager
def judge(folder: Path) -> Iterator[Judge]:
    """Have a judge, whose libvirt keeps its files in ``folder``."""
    plan = LauncherPlan(uri=f"qemu:///embed?root={folder}", files={"etc/qemu.conf": QEMU_CONF})
    content = {**asdict(plan), "protocol": 1, "domain": {"name": "a", "uuid": "b"}}
    (folder / "plan.json").write_text(json.dumps(content))
    read_plan(folder).prepare()
    command = [sys.executable, "-m", __name__, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Judge(process)
        assert process.stdin
        process.stdin.close()


WATCHDOG = "watchdog[@model='i6300esb']"
"""The one that is chosen; newer versions of libvirt show the one of the board q35 (itco), too."""
COUNTED = ("disk", "interface", "filesystem", "channel", "redirdev", "rng", "sound", "tpm", "panic", WATCHDOG)
"""Devices of which libvirt adds none by itself."""
AS_MEANT = re.compile(r"/domain/(memory|currentMemory|os/type)\b")
"""Where it says the same in other words: sizes in KiB, the version of a machine type."""


def lost(ours: str, theirs: str) -> list[str]:
    """Return what was written and is not there any more, or has another value, and devices that were added."""
    one, other = etree.fromstring(ours), etree.fromstring(theirs)
    found = [flaw for flaw in _lost(one, other, "") if not AS_MEANT.match(flaw)]
    for tag in (*COUNTED, "controller[@type='pci']"):
        wanted, there = len(one.findall(f"devices/{tag}")), len(other.findall(f"devices/{tag}"))
        if wanted != there:
            found.append(f"{there} of {tag} instead of {wanted}")
    return found


def _lost(one: etree._Element, other: etree._Element, above: str) -> list[str]:
    path = f"{above}/{one.tag}"
    found = [f"{path} {key}={value}: {other.get(key)}" for key, value in one.items() if other.get(key) != value]
    text = (one.text or "").strip()
    if text != (other.text or "").strip():
        found.append(f"{path}: {text}: {other.text}")
    left = {tag: other.findall(tag) for tag in {child.tag for child in one}}
    for child in one:
        nearest = min(left[child.tag], key=lambda their: len(_lost(child, their, path)), default=None)
        if nearest is not None:
            left[child.tag].remove(nearest)
            found += _lost(child, nearest, path)
        elif len(child) or child.attrib or child.text:
            found.append(f"{path}/{child.tag}: nothing")
    return found


def _run_events(libvirt: Any) -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def _judged(libvirt: Any, connection: Any, xml: str) -> list[str]:
    """Return what there is to say of a domain; without one, what domains can have."""
    if not xml:
        return [connection.getDomainCapabilities(None, None, None, "qemu", 0)]
    try:
        command = connection.domainXMLToNative("qemu-argv", xml)
        domain = connection.defineXML(xml)
        found = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)
        return ["", found, command]
    except libvirt.libvirtError as error:
        return [error.get_error_message()]


def _judge_all(folder: str, lines: Iterable[str]) -> None:
    import libvirt

    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_run_events, args=(libvirt,), daemon=True).start()
    libvirt.registerErrorHandler(lambda _, error: None, None)
    connection = libvirt.open(f"qemu:///embed?root={folder}")
    for line in lines:
        answer = _judged(libvirt, connection, json.loads(line))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _judge_all(sys.argv[1], sys.stdin)
