"""From an HTTP request to plain values: body, query, wanted form of the answer; and back to a response."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import yaml
from starlette.requests import ClientDisconnect, Request

from . import protobuf
from .errors import Obj, StatusError, bad_request
from .negotiation import JSON, YAML
from .registry import Options

BODY_LIMIT = 3 * 1024 * 1024
_DEPTH_LIMIT = 200


async def read_body(request: Request) -> bytes:
    """Read the body, up to the limit."""
    length = request.headers.get("content-length", "")
    too_large = StatusError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {BODY_LIMIT} bytes")
    if length.isdigit() and int(length) > BODY_LIMIT:
        raise too_large
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_LIMIT:
                raise too_large
    except ClientDisconnect as error:
        raise bad_request("the client went away") from error
    return bytes(body)


@dataclass(frozen=True, slots=True)
class Body:
    """A parsed body and the fields that it names more than once."""

    value: Any
    duplicates: tuple[str, ...] = ()


def parse(body: bytes, content_type: str) -> Body:
    """Parse JSON or YAML by content type; without one, by the look of it."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in ("", JSON, YAML, protobuf.MEDIA):
        raise unsupported(content_type)
    if not body.strip():
        return Body(None)
    if kind == protobuf.MEDIA:
        return Body(protobuf.decode(body))
    if kind == YAML or (not kind and body.lstrip()[:1] not in (b"{", b"[")):
        return _parse_yaml(body)
    duplicates: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> Obj:
        found: Obj = {}
        for key, value in items:
            if key in found:
                duplicates.append(key)
            found[key] = value
        return found

    def constant(text: str) -> Any:
        raise ValueError(f"{text} is not a JSON value")

    try:
        value = json.loads(body, object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"the body is not valid JSON: {error}") from None
    _check_depth(value)
    return Body(value, tuple(duplicates))


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: timestamps are text, keys are text."""


_Loader.yaml_implicit_resolvers = {
    first: [one for one in resolvers if one[0] != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _parse_yaml(body: bytes) -> Body:
    try:
        text = body.decode()
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=yaml.SafeLoader)):
            raise bad_request("the body is not valid YAML: aliases are not allowed")
        value = yaml.load(text, Loader=_Loader)
        value = json.loads(json.dumps(value))
    except (yaml.YAMLError, UnicodeError, ValueError, TypeError, RecursionError) as error:
        raise bad_request(f"the body is not valid YAML: {error}") from None
    _check_depth(value)
    return Body(value)


def _check_depth(value: Any) -> None:
    level: Iterable[Any] = [value]
    for _ in range(_DEPTH_LIMIT):
        level = [
            inner
            for one in level
            if isinstance(one, (dict, list))
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise bad_request(f"the body is nested deeper than {_DEPTH_LIMIT} levels")


def unsupported(content_type: str) -> StatusError:
    """Refuse a form of body."""
    message = (
        f"the body of the request was in an unknown format - {content_type!r}; accepted media types include: "
        f"{JSON}, {YAML}, {protobuf.MEDIA}"
    )
    return StatusError(415, "UnsupportedMediaType", message)


def query_of(request: Request) -> dict[str, str]:
    """Return the query's parameters; of a repeated one the first, as in Go."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        found.setdefault(name, value)
    return found


def flag(query: dict[str, str], name: str) -> bool:
    """Read a boolean parameter."""
    text = query.get(name, "false").lower()
    if text not in ("true", "false", "1", "0", ""):
        raise bad_request(f"{name}: Invalid value: {text!r}: must be true or false")
    return text in ("true", "1")


def options_of(request: Request, query: dict[str, str]) -> Options:
    """Read how a write is meant."""
    dry_run = query.get("dryRun", "")
    if dry_run not in ("", "All"):
        raise bad_request(f"dryRun: Unsupported value: {dry_run!r}: supported values: All")
    validation = query.get("fieldValidation") or "Warn"
    if validation not in ("Strict", "Warn", "Ignore"):
        message = f"fieldValidation: Unsupported value: {validation!r}: supported values: Ignore, Strict, Warn"
        raise bad_request(message)
    manager = query.get("fieldManager", "")
    if len(manager) > 128:
        raise bad_request("fieldManager: may not be more than 128 characters")
    if not manager:
        manager = unquote(request.headers.get("user-agent", "")).partition("/")[0][:128] or "unknown"
    return Options(manager=manager, dry_run=bool(dry_run), force=flag(query, "force"), validation=validation)


def report_duplicates(body: Body, options: Options) -> None:
    """Treat fields that were given twice as ``fieldValidation`` asks."""
    found = [f'duplicate field "{name}"' for name in body.duplicates]
    if found and options.validation == "Strict":
        raise bad_request("strict decoding error: " + ", ".join(found))
    if options.validation == "Warn":
        options.warnings += found


def warning_headers(warnings: Iterable[str]) -> list[tuple[str, str]]:
    """Write warnings as headers."""
    headers = []
    for text in list(warnings)[:20]:
        plain = re.sub(r"[\x00-\x1f\x7f]", " ", text)[:1000].encode("ascii", "replace").decode()
        quoted = plain.replace("\\", "\\\\").replace('"', '\\"')
        headers.append(("Warning", f'299 - "{quoted}"'))
    return headers
