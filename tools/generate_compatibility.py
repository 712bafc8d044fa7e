"""Write ``docs/kubevirt-compatibility.md``: ``python tools/generate_compatibility.py [--check]``.

What KubeVirt's examples and user guide ask for stands in ``tools/data/compatibility.yaml`` as small machines; what
becomes of each is asked of admission and of the drivers' tables, so the page says what a user would be told.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pages import write_page

from polyvisor.admission import AdmissionContext
from polyvisor.admission.explanation import Explanation, Fit, explain
from polyvisor.api import Obj
from polyvisor.api.refused import GIVEN_UP
from polyvisor.api.resources import RESOURCES, VMIS, VMS, Resource
from polyvisor.drivers import DriverRegistry, registry
from polyvisor.drivers.base import Driver, Verdict
from polyvisor.testing.examples import NO_ROOT, SOURCES, backing
from polyvisor.testing.merging import merged

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tools" / "data" / "compatibility.yaml"
PATH = ROOT / "docs" / "kubevirt-compatibility.md"
PLAIN: Obj = {"domain": {"memory": {"guest": "64Mi"}, "devices": {}}}
DRIVERS = list(registry())
HEAD = """<!-- Written by tools/generate_compatibility.py from tools/data/compatibility.yaml. Change that. -->
# KubeVirt's examples and user guide: what is supported

Polyvisor speaks KubeVirt's API. This page goes through what KubeVirt's own examples and the chapters of its user guide
ask for, one kind of field at a time. Each was made into a small machine and put to admission, as `polyvisor explain`
does with yours, on a root volume where a driver needs one; the page is generated, and the linters hold it in step.

*accepted*: on these drivers; in brackets, those that can under a condition, such as firmware on the node or KVM (the
[feature matrix](feature-matrix.md) has them). What was seen in guests is on [another page](proofs.md). *refused*: with
the field and this message, before anything is made. What a driver lacks is refused for a machine that names it, and
passed over in favour of another driver where none is named.
"""


def generate() -> str:
    """Return the page."""
    data = yaml.safe_load(DATA.read_text())
    parts = [HEAD]
    parts += ["## Examples\n", _row(["what it asks for", "examples", "result"]), _row(["---"] * 3)]
    parts += [_row([row["what"], row["of"], _outcome(row)]) for row in data["examples"]]
    parts += ["\n## User guide\n", _row(["chapter", "", "result"]), _row(["---"] * 3)]
    parts += [_row([row["what"], row["of"], _outcome(row)]) for row in data["user guide"]]
    return "\n".join(parts) + "\n"


def _outcome(row: Obj) -> str:
    if "note" in row:
        return str(row["note"])
    if "features" in row:
        return _by_features(row["features"])
    if "kind" in row:
        return _by_kind(row["kind"])
    metadata = {"name": "one", "namespace": "default"}
    if annotations := row.get("annotations"):
        metadata["annotations"] = annotations
    if "vm" in row:
        whole: Obj = merged({"runStrategy": "Halted", "template": {"spec": PLAIN}}, row["vm"])
        return _told(
            _judged(VMS, lambda more: _object(VMS.kind, metadata, merged({"template": {"spec": more}}, whole)))
        )
    spec = merged(PLAIN, row["spec"])
    return _told(_judged(VMIS, lambda more: _object(VMIS.kind, metadata, merged(more, spec))))


def _judged(resource: Resource, machine: Callable[[Obj], Obj]) -> Explanation:
    """Ask every driver; one that wants a root volume, of which a small machine says nothing, is asked with one."""
    found = explain(resource, machine({}), AdmissionContext({}, registry()))
    verdicts = []
    for verdict in found.drivers:
        if any(lack.feature.id == NO_ROOT for lack in verdict.lacks):
            root = {"volumes": [{"name": "boot", **SOURCES[backing(verdict.driver)]}]}
            alone = AdmissionContext({}, DriverRegistry([verdict.driver]))
            (verdict,) = explain(resource, machine(root), alone).drivers
        verdicts.append(verdict)
    return replace(found, drivers=tuple(verdicts))


def _object(kind: str, metadata: Obj, spec: Obj) -> Obj:
    return {"apiVersion": "kubevirt.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def _told(found: Explanation) -> str:
    if found.problems:
        problem = found.problems[0]
        return f"refused: `{problem.field}`: {problem.message}"
    fits: dict[Fit, list[Driver]] = {fit: [] for fit in Fit}
    for verdict in found.drivers:
        fits[verdict.fit].append(verdict.driver)
    if not fits[Fit.RUNS] and not fits[Fit.CONDITIONAL]:
        lack = next(v for v in found.drivers if v.driver is DRIVERS[0]).lacks[0]
        return f"refused: `{lack.fields[0]}`: {lack.driver.title}: {lack.reason}"
    return _drivers(fits[Fit.RUNS], fits[Fit.CONDITIONAL])


def _by_features(ids: list[str]) -> str:
    answers = {
        driver.title: [driver.features[id_].verdict if id_ in driver.features else Verdict.UNKNOWN for id_ in ids]
        for driver in DRIVERS
    }
    whole = [d for d in DRIVERS if all(v is Verdict.SUPPORTED for v in answers[d.title])]
    part = [
        d
        for d in DRIVERS
        if d not in whole and all(v in (Verdict.SUPPORTED, Verdict.CONDITIONAL) for v in answers[d.title])
    ]
    if whole or part:
        return _drivers(whole, part)
    reason = DRIVERS[0].features[ids[0]].reason
    return f"refused: {DRIVERS[0].title}: {reason}"


def _by_kind(kind: str) -> str:
    found = next((resource for resource in RESOURCES if resource.kind == kind), None)
    if kind in GIVEN_UP:
        return f"refused: {GIVEN_UP[kind]}"
    if found is None:
        return f"not there: `{kind}` is not a kind that Polyvisor serves"
    return f"refused: {found.refused}" if found.refused else "accepted: on every driver"


def _drivers(whole: list[Driver], part: list[Driver]) -> str:
    if len(whole) == len(DRIVERS):
        return "accepted: on every driver"
    names = [driver.title for driver in whole] + [f"({driver.title})" for driver in part]
    return f"accepted: {', '.join(names)}"


def _row(cells: list[Any]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def main() -> int:
    """Write the page, or with ``--check`` say that it is out of step."""
    return write_page(PATH, generate, __doc__)


if __name__ == "__main__":
    sys.exit(main())
