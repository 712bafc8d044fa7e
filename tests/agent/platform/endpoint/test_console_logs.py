"""Whose console a log is: the machine's alone, whatever UUID its domain is said to have."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import libvirt
import pytest

from polyvisor.agent.platform.endpoint.access import EndpointAccess, console_log
from polyvisor.api import Obj
from polyvisor.api.names import CONSOLE_CONTAINER
from polyvisor.launcher.endpoint.consoles import Consoles
from polyvisor.launcher.endpoint.owned import Refused

UUID = "11111111-2222-3333-4444-555555555555"


class Stream:
    """A stream that says one thing."""

    def __init__(self, said: bytes) -> None:
        self._said = [said]

    def eventAddCallback(self, *_: Any) -> None:
        pass

    def eventRemoveCallback(self) -> None:
        pass

    def abort(self) -> None:
        pass

    def recv(self, _: int) -> Any:
        return self._said.pop() if self._said else -2


def domain() -> Any:
    return SimpleNamespace(UUIDString=lambda: UUID, openConsole=lambda *_: None)


def said(folder: Path, *pairs: tuple[str, bytes]) -> Consoles:
    """Have machines, one after the other, write to the console of a domain with the same UUID."""
    words = [word for _, word in pairs]
    consoles = Consoles(folder / "consoles", lambda: Stream(words.pop(0)))
    for machine, _ in pairs:
        consoles.follow(domain(), machine)._on_event(None, libvirt.VIR_STREAM_EVENT_READABLE, None)
    return consoles


async def read(folder: Path, uid: str, pod: Obj | None = None) -> bytes:
    vmi: Obj = {
        "metadata": {"uid": uid, "name": "m", "namespace": "mine"},
        "spec": {"domain": {"firmware": {"uuid": UUID}}},
    }
    agent: Any = SimpleNamespace(machine=lambda _: vmi)
    keeper: Any = SimpleNamespace(folder=folder)
    access = EndpointAccess(keeper, agent)
    return b"".join([chunk async for chunk in access.read_log(pod or launcher(uid), CONSOLE_CONTAINER)])


def launcher(uid: str, namespace: str = "mine", **labels: str) -> Obj:
    """Return the Pod that virt-controller made for a machine, or one that says so."""
    owner = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": "m", "uid": uid}
    marks = {"kubevirt.io": "virt-launcher", "kubevirt.io/created-by": uid, **labels}
    return {"metadata": {"namespace": namespace, "labels": marks, "ownerReferences": [{**owner, "controller": True}]}}


@pytest.mark.parametrize("marks", [{"namespace": "another"}, {"kubevirt.io/created-by": "x"}, {"kubevirt.io": "x"}])
async def test_a_pod_that_says_it_is_a_machines_shows_nothing_of_its_console(
    tmp_path: Path, marks: dict[str, str]
) -> None:
    said(tmp_path, ("victim", b"password: hunter2\n")).close()
    assert await read(tmp_path, "victim", launcher("victim")) == b"password: hunter2\n"
    assert await read(tmp_path, "victim", launcher("victim", **marks)) == b""


async def test_a_machine_with_the_uuid_of_another_reads_nothing_of_its_console(tmp_path: Path) -> None:
    """A UUID is anybody's to name, and free again when its machine is gone; the next one's log begins empty."""
    consoles = said(tmp_path, ("victim", b"password: hunter2\n"))
    assert await read(tmp_path, "victim") == b"password: hunter2\n"
    assert await read(tmp_path, "attacker") == b""
    consoles.close()
    said(tmp_path, ("attacker", b"mine\n")).close()
    assert await read(tmp_path, "attacker") == b"mine\n"


async def test_a_console_that_changes_hands_is_another_log_from_then_on(tmp_path: Path) -> None:
    consoles = said(tmp_path, ("first", b"one\n"), ("second", b"two\n"))
    assert (await read(tmp_path, "first"), await read(tmp_path, "second")) == (b"one\n", b"two\n")
    again = consoles.follow(domain(), "second")
    assert again is consoles.follow(domain(), "second")
    consoles.close()


@pytest.mark.parametrize("machine", ["", "../../etc/cron.d/x", "a/b", "x" * 65])
def test_a_uid_that_is_none_is_no_files_name(tmp_path: Path, machine: str) -> None:
    with pytest.raises(Refused):
        said(tmp_path, (machine, b""))
    assert list(tmp_path.iterdir()) == []
    assert console_log(tmp_path, "u").parent == tmp_path / "consoles"
