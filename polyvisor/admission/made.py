"""Virtual machines that a controller makes for a user: by a restore, by a clone, by a pool.

The controller writes them with rights of its own, and admission asks no component for its rights. So the user is asked
when the restore or clone is written: the machine as it will be is held to the rules on rights, gates and weaker
drivers, and which of those are allowed is recorded on the object, from where the controller hands it on.
"""

from __future__ import annotations

from polyvisor.admission import gates, isolation, rights
from polyvisor.admission.context import AdmissionContext
from polyvisor.admission.values import Findings, mapping
from polyvisor.api import Obj
from polyvisor.api.problems import Problem
from polyvisor.placement.permission import ANNOTATION, hand_on


def judge(maker: Obj, vm: Obj, before: Obj | None, context: AdmissionContext, found: Findings, path: str) -> None:
    """Refuse what the writer of ``maker`` may not have in ``vm``; its problems are told at ``path``.

    ``before`` is the machine that the writer was let have already. What is allowed is recorded on ``maker``, in place.
    """
    own, metadata = Findings(warnings=found.warnings), mapping(vm, "metadata")
    kept = {key: value for key, value in mapping(metadata, "annotations").items() if key != ANNOTATION}
    metadata["annotations"] = kept | {
        key: value for key, value in mapping(maker, "metadata", "annotations").items() if key == ANNOTATION
    }
    rights.validate(vm, before, context.requester, own)
    gates.validate(vm, before, context, own)
    isolation.admit(vm, before, context, own)
    if isinstance(maker.get("metadata"), dict):
        hand_on(vm, maker)
    for one in own.problems:
        field = ".".join(part for part in (path, one.field) if part)
        found.problems.append(Problem(field, one.message, one.reason, one.feature))


def asks(context: AdmissionContext) -> bool:
    """Whether the writer is somebody whose rights are asked for."""
    return context.cluster and not context.requester.ours
