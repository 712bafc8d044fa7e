"""CPUs of a machine's own: which are given, to whom they stay given, and which are left to the others."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from polyvisor.agent.errors import AgentError
from polyvisor.agent.link.connection import LauncherError
from polyvisor.agent.node.cpus import HostCpus, PodCpus

SHARING: dict[str, Any] = {"domain": {"cpu": {"cores": 2}, "devices": {}}}


def alone(cores: int = 1, **cpu: Any) -> dict[str, Any]:
    return {"domain": {"cpu": {"cores": cores, "dedicatedCpuPlacement": True, **cpu}, "devices": {}}}


class Link:
    """A launcher with a machine that runs, which notes where it was told to stay."""

    pid = os.getpid()
    active = True

    def __init__(self, *, old: bool = False) -> None:
        self.old = old
        self.told: list[list[int]] = []

    async def request(self, operation: str, *, cpus: list[int]) -> None:
        assert operation == "confine"
        if self.old:
            raise LauncherError("unknown operation 'confine'")
        self.told.append(cpus)


class Launchers:
    def __init__(self, **links: Link) -> None:
        self.links = links

    def ids(self) -> list[str]:
        return list(self.links)

    def get(self, id_: str) -> Link | None:
        return self.links.get(id_)

    exists = __contains__ = lambda self, id_: id_ in self.links


def keeper(folder: Path, launchers: Launchers, cpus: int = 4) -> HostCpus:
    return HostCpus(folder / "cpus.json", launchers, frozenset(range(cpus)))  # type: ignore[arg-type]


async def give(cpus: HostCpus | PodCpus, id_: str, spec: dict[str, Any], link: Any = None) -> tuple[int, ...]:
    return await cpus.given(spec, id_, link or Link())


async def test_each_machine_has_its_own_and_the_lowest_is_everybodys(tmp_path: Path) -> None:
    launchers = Launchers(a=Link(), b=Link(), c=Link())
    cpus = keeper(tmp_path, launchers)
    assert await give(cpus, "a", SHARING) == ()
    assert await give(cpus, "b", alone()) == (1,)
    assert await give(cpus, "c", alone(1, isolateEmulatorThread=True)) == (2, 3)
    assert await give(cpus, "b", alone()) == (1,), "a start that is tried again"


async def test_too_few_are_told_with_who_has_them(tmp_path: Path) -> None:
    launchers = Launchers(a=Link(), b=Link())
    cpus = keeper(tmp_path, launchers)
    await give(cpus, "a", alone(2))
    with pytest.raises(AgentError) as told:
        await give(cpus, "b", alone(2))
    assert str(told.value) == (
        "spec.domain.cpu.dedicatedCpuPlacement: 2 CPUs are to be the machine's own, and 1 of this host's 4 can be "
        "given: 2 are other machines' own already, and one stays everybody's"
    )
    assert told.value.retry
    del launchers.links["a"]
    assert await give(cpus, "b", alone(3)) == (1, 2, 3), "what ran there is gone"


async def test_what_was_given_is_known_to_the_next_agent(tmp_path: Path) -> None:
    launchers = Launchers(a=Link(), b=Link())
    await give(keeper(tmp_path, launchers), "a", alone(2))
    later = keeper(tmp_path, launchers)
    assert await give(later, "b", alone()) == (3,)
    assert await give(later, "a", alone(2)) == (1, 2)


async def test_the_others_leave_before_a_machine_has_its_cpu_and_come_back_after_it(tmp_path: Path) -> None:
    sharing, old, own = Link(), Link(old=True), Link()
    launchers = Launchers(sharing=sharing, old=old, own=own)
    cpus = keeper(tmp_path, launchers)
    await cpus.reconcile("all")
    assert sharing.told == [], "nobody has a CPU of his own"
    await give(cpus, "own", alone(2))
    assert sharing.told == [[0, 3]]
    await cpus.reconcile("all")
    assert sharing.told == [[0, 3]], "once is enough"
    assert own.told == []
    del launchers.links["own"]
    await keeper(tmp_path, launchers).reconcile("all")
    assert sharing.told[1:] == [[0, 1, 2, 3]]


def test_a_host_says_what_it_can_give(tmp_path: Path) -> None:
    found = [keeper(tmp_path, Launchers(), count).facts() for count in (1, 2, 3)]
    assert found == [frozenset(), {"cpu.pinning"}, {"cpu.pinning", "cpu.emulator-pinning"}]


@pytest.mark.parametrize(
    ("state", "gives"),
    [('{"policyName":"static","defaultCpuSet":"0-1"}', True), ('{"policyName":"none"}', False), ("[]", False)],
)
def test_a_kubelet_gives_cpus_if_its_policy_is_static(tmp_path: Path, state: str, gives: bool) -> None:
    kubelet = Path("/var/lib/kubelet")
    cpus = PodCpus(kubelet, tmp_path)
    assert cpus.facts() == frozenset()
    (file,) = map(Path, cpus.watched)
    assert file == tmp_path / "var/lib/kubelet/cpu_manager_state"
    file.parent.mkdir(parents=True)
    file.write_text(state)
    assert ("cpu.pinning" in cpus.facts()) is gives
    assert PodCpus(None).facts() == frozenset()


async def test_a_launcher_that_the_kubelet_gave_nothing_does_not_start_its_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpus, link = PodCpus(tmp_path), SimpleNamespace(pid=7)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5, 3} if pid == 7 else {0})
    assert await give(cpus, "x", alone(2), link) == (3, 5)
    assert await give(cpus, "x", SHARING, link) == ()
    with pytest.raises(AgentError, match=r"1 CPUs .* may run on 2 \(3,5\); this node's kubelet needs cpuManagerPolicy"):
        await give(cpus, "x", alone(), link)


async def test_what_is_given_is_written_down_before_the_guest_starts(tmp_path: Path) -> None:
    await give(keeper(tmp_path, Launchers(a=Link())), "a", alone())
    assert json.loads((tmp_path / "cpus.json").read_text()) == {"a": [1]}
