"""In which form a client wants its answer: the media type and, for objects, what is made of them.

Kubernetes answers JSON, YAML and, for the built-in kinds, protobuf; a client lists what it takes, best first or with
weights (RFC 9110, 12.5.1), and gets the first that can be had, or 406.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import yaml
from starlette.responses import Response

from . import protobuf
from .errors import Obj, StatusError

Form = Literal["Object", "Table", "Partial"]
Media = Literal["json", "yaml", "protobuf"]
JSON, YAML = "application/json", "application/yaml"
_MEDIA: dict[str, Media] = {
    JSON: "json",
    "application/*": "json",
    "*/*": "json",
    YAML: "yaml",
    protobuf.MEDIA: "protobuf",
}
_FORMS: dict[str, Form] = {
    "": "Object",
    "Table": "Table",
    "PartialObjectMetadata": "Partial",
    "PartialObjectMetadataList": "Partial",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """The form of an answer."""

    form: Form = "Object"
    media: Media = "json"


def wanted(accept: str, *, encodable: bool, watch: bool = False) -> Wanted:
    """Choose the form of an answer; 406 where the client takes none that can be had.

    ``encodable`` says that the objects have a protobuf form. A ``watch`` cannot be answered as YAML.
    """
    for media_type, parameters in _ranges(accept or JSON):
        media = _MEDIA.get(media_type)
        form = _FORMS.get(parameters.get("as", ""))
        if media is None or form is None or (media == "protobuf" and (form != "Object" or not encodable)):
            continue
        if media == "yaml" and watch:
            continue
        return Wanted(form, media)
    offered = [JSON, *([] if watch else [YAML]), *([protobuf.MEDIA] if encodable else [])]
    message = f"only the following media types are accepted: {', '.join(offered)}"
    raise StatusError(406, "NotAcceptable", message)


def _ranges(accept: str) -> list[tuple[str, dict[str, str]]]:
    """Return the media ranges of an Accept header with their parameters, the heaviest first."""
    found = []
    for part in accept.split(","):
        media_type, *rest = (piece.strip() for piece in part.split(";"))
        parameters = {name.strip(): value.strip() for name, _, value in (piece.partition("=") for piece in rest)}
        try:
            weight = float(parameters.pop("q", "1"))
        except ValueError:
            weight = 0.0
        if weight > 0:
            found.append((weight, media_type.lower(), parameters))
    found.sort(key=lambda one: -one[0])
    return [(media_type, parameters) for _, media_type, parameters in found]


class JsonResponse(Response):
    """A JSON answer, encoded without spaces."""

    media_type = JSON

    def render(self, content: Any) -> bytes:
        """Encode."""
        return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()


def respond(obj: Obj, how: Wanted, code: int = 200) -> Response:
    """Answer an object or a list in the media type that was chosen."""
    if how.media == "yaml":
        return Response(yaml.safe_dump(obj, sort_keys=True, allow_unicode=True), code, media_type=YAML)
    if how.media == "protobuf":
        return Response(protobuf.encode(obj), code, media_type=protobuf.MEDIA)
    return JsonResponse(obj, code)
