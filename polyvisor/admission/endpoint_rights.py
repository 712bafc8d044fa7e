"""Rights on an endpoint that the right to create machines there does not include: to adopt, and to fence.

Domains on a host that nobody manages may be anybody's. So who has a machine take one over, or begin one with more than
its template says, or let go of one, which then runs on without an owner, needs the right to ``adopt`` on
``hypervisorendpoints``, by the endpoint's name. Who says that a guest does not run, whatever is on the host, needs the
right to ``fence``. No role that Polyvisor brings has either.
"""

from __future__ import annotations

from collections.abc import Iterator

from polyvisor.admission.context import Access
from polyvisor.admission.values import mapping, text
from polyvisor.api import Obj
from polyvisor.api.adopted import ADOPTED_SPEC_ANNOTATION, DELETION_POLICY_ANNOTATION
from polyvisor.api.endpoint_names import ADOPT_ANNOTATION, FENCED_ANNOTATION, UNMANAGE_ANNOTATION
from polyvisor.api.resources import ENDPOINTS

ADOPT, FENCE = "adopt", "fence"
_WORDS = (
    (ADOPT_ANNOTATION, ADOPT, "domain {value} on the host of endpoint {endpoint} may be taken over"),
    (
        ADOPTED_SPEC_ANNOTATION,
        ADOPT,
        "a domain on the host of endpoint {endpoint} may be begun as it is there ({value})",
    ),
    (UNMANAGE_ANNOTATION, ADOPT, "domains on the host of endpoint {endpoint} may be let go of"),
    (DELETION_POLICY_ANNOTATION, ADOPT, "domains on the host of endpoint {endpoint} may be let go of"),
    (FENCED_ANNOTATION, FENCE, "guests on the host of endpoint {endpoint} may be said not to run"),
)
MAX_VALUE = 64


def needs(obj: Obj) -> Iterator[tuple[str, tuple[tuple[Access, ...], str]]]:
    """Give which rights the annotations of a machine, or of its template, take: the path, the rights, what to say."""
    places: list[tuple[str, ...]] = [("metadata",)]
    spec = mapping(obj, "spec")
    if "template" in spec:
        places.append(("spec", "template", "metadata"))
        spec = mapping(spec, "template", "spec")
    endpoint = text(mapping(spec, "hypervisor").get("endpoint"))
    for place in places:
        annotations = mapping(obj, *place, "annotations")
        for name, verb, what in _WORDS:
            if name in annotations:
                said = what.format(value=text(annotations[name])[:MAX_VALUE], endpoint=endpoint or "(none)")
                message = f"{said} by who may {verb} {ENDPOINTS.plural}.{ENDPOINTS.group}/{endpoint}"
                access = Access(verb, ENDPOINTS.group, ENDPOINTS.plural, "", endpoint)
                yield f"{'.'.join(place)}.annotations[{name}]", ((access,), message)
