"""What a placement found: the chosen driver with what its Pod needs from a node, and a word on every other driver."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polyvisor.api.names import CandidateVerdict
from polyvisor.api.problems import Problem

if TYPE_CHECKING:
    from polyvisor.api import Obj
    from polyvisor.drivers.base import Driver


@dataclass(frozen=True, slots=True)
class Candidate:
    """A driver that was considered: the verdict, and the problems that led to it."""

    driver: str
    verdict: CandidateVerdict
    reasons: tuple[Problem, ...] = ()
    endpoint: str = ""
    """The endpoint on whose host it was considered, for a machine that names none."""

    def to_obj(self) -> Obj:
        """Return the entry of ``status.hypervisor.candidates``."""
        entry: Obj = {"driver": self.driver, "verdict": str(self.verdict)}
        if self.endpoint:
            entry["endpoint"] = self.endpoint
        if self.reasons:
            entry["reasons"] = [
                {k: v for k, v in (("field", r.field), ("feature", r.feature), ("message", r.message)) if v}
                for r in self.reasons
            ]
        return entry


@dataclass(frozen=True, slots=True)
class Placement:
    """The decision. ``driver`` is None when nothing fits; the candidates then say why."""

    driver: Driver | None
    virt_type: str
    candidates: tuple[Candidate, ...]
    labels: Mapping[str, tuple[str, ...]]
    """What the chosen driver needs of a node: label -> accepted values."""
    absent: tuple[str, ...] = ()
    """Labels that the node must not show."""
    launcher_image: str = ""
    emulated: bool = False
    endpoint: str = ""
    """The HypervisorEndpoint on whose host the machine is to run; empty: on a node of the cluster."""
    offered: bool = False
    """Whether the endpoint was chosen for a machine that names none."""

    @property
    def node_affinity(self) -> list[Obj]:
        """The match expressions that the Pod requires of its node."""
        shown = [{"key": k, "operator": "In", "values": list(v)} for k, v in sorted(self.labels.items())]
        return [*shown, *({"key": label, "operator": "DoesNotExist"} for label in sorted(self.absent))]

    def to_status(self) -> Obj:
        """Return the fields of ``status.hypervisor`` that placement decides."""
        status: Obj = {"candidates": [c.to_obj() for c in self.candidates]}
        if self.driver is not None:
            status |= {"driver": self.driver.name, "virtType": self.virt_type}
            status |= {"endpoint": self.endpoint} if self.offered else {}
        return status

    def told(self) -> str:
        """Say what was chosen, and what was passed over before."""
        verdicts = [one.verdict for one in self.candidates]
        before = self.candidates[: verdicts.index(CandidateVerdict.CHOSEN)]
        passed = [f"{one.driver}{_at(one)} ({one.verdict})" for one in before]
        how = f"{self.driver.name if self.driver else ''} as {self.virt_type}"
        how += f" at endpoint {self.endpoint}" if self.offered else ""
        how += ", software emulation" if self.emulated else ""
        return how + (f"; passed over {', '.join(passed)}" if passed else "")

    def explain(self) -> str:
        """Say in one line why no driver can run the machine: those first that lack a node alone, few of the others."""
        near = [one for one in self.candidates if one.verdict not in FAR]
        far = [one for one in self.candidates if one.verdict in FAR]
        groups = _grouped(near or far[:DETAILED])
        parts = [f"{', '.join(drivers)}: {why}" for why, drivers in groups[:DETAILED]]
        more = sum(len(drivers) for _, drivers in groups[DETAILED:]) + (len(far) if near else len(far[DETAILED:]))
        if more:
            parts.append(f"{more} more drivers cannot either (status.hypervisor.candidates says why)")
        return "no driver can run this machine: " + ("; ".join(parts) or "no driver is enabled")


FAR = (CandidateVerdict.UNSUPPORTED, CandidateVerdict.NOT_ENABLED)
DETAILED = 3
"""Of how many drivers, and how many reasons of each, the one line tells."""
FIELDS = 4


def _grouped(candidates: Iterable[Candidate]) -> list[tuple[str, list[str]]]:
    """Return what is said of the drivers, and of which; the same words are said once."""
    found: dict[str, list[str]] = {}
    for candidate in candidates:
        found.setdefault(_why(candidate), []).append(f"{candidate.driver}{_at(candidate)}")
    return list(found.items())


def _at(candidate: Candidate) -> str:
    return f" at endpoint {candidate.endpoint}" if candidate.endpoint else ""


def _why(candidate: Candidate) -> str:
    """Say why a driver cannot run the machine; fields of which the same is said are named together."""
    fields: dict[str, list[str]] = {}
    for reason in candidate.reasons:
        fields.setdefault(reason.message, []).append(reason.field)
    said = [_said(message, [field for field in named if field]) for message, named in list(fields.items())[:DETAILED]]
    if len(fields) > DETAILED:
        said.append(f"and {len(fields) - DETAILED} more reasons")
    return "; ".join(said) or str(candidate.verdict)


def _said(message: str, fields: list[str]) -> str:
    more = f" and {len(fields) - FIELDS} more" if len(fields) > FIELDS else ""
    return f"{', '.join(fields[:FIELDS])}{more}: {message}" if fields else message
