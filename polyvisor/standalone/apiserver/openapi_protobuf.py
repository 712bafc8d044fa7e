"""OpenAPI version 2 as protobuf, which Go clients ask for: kubectl before 1.29 and client-go's validation among them.

The field numbers are those of gnostic's OpenAPIv2.proto, the format that they read it with.
"""

from __future__ import annotations

import json
from typing import Any

from polyvisor.kube.wire import bytes_field, number_field

from .errors import Obj

PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""With dots alone: Go refuses to parse a media type with the ``@`` that clients write in Accept."""
_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 7}


def encode(document: Obj) -> bytes:
    """Return a document of version 2 as gnostic's ``Document``."""
    info = bytes_field(1, document["info"]["title"].encode()) + bytes_field(2, document["info"]["version"].encode())
    paths = b"".join(bytes_field(2, _named(path, _path_bytes(one))) for path, one in document["paths"].items())
    definitions = _schemas(document["definitions"])
    return bytes_field(1, b"2.0") + bytes_field(2, info) + bytes_field(8, paths) + bytes_field(9, definitions)


def _named(name: str, value: bytes) -> bytes:
    return bytes_field(1, name.encode()) + bytes_field(2, value)


def _extensions(number: int, obj: Obj) -> bytes:
    return b"".join(
        bytes_field(number, _named(name, _any(value))) for name, value in obj.items() if name.startswith("x-")
    )


def _any(value: Any) -> bytes:
    """Return a value of any type; gnostic reads the text as YAML, of which JSON is a part."""
    return bytes_field(2, json.dumps(value).encode())


def _schemas(schemas: Obj) -> bytes:
    return b"".join(bytes_field(1, _named(name, _schema_bytes(one))) for name, one in schemas.items())


def _schema_bytes(schema: Obj) -> bytes:
    out = b""
    for name, number in (("$ref", 1), ("format", 2), ("description", 4), ("pattern", 13)):
        if name in schema:
            out += bytes_field(number, schema[name].encode())
    out += b"".join(bytes_field(19, name.encode()) for name in schema.get("required", ()))
    out += b"".join(bytes_field(20, _any(value)) for value in schema.get("enum", ()))
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        out += bytes_field(21, bytes_field(1, _schema_bytes(additional)))
    elif additional is not None:
        out += bytes_field(21, number_field(2, int(additional)))
    if "type" in schema:
        out += bytes_field(22, bytes_field(1, schema["type"].encode()))
    if "items" in schema:
        out += bytes_field(23, bytes_field(1, _schema_bytes(schema["items"])))
    if "properties" in schema:
        out += bytes_field(25, _schemas(schema["properties"]))
    return out + _extensions(31, schema)


def _path_bytes(operations: Obj) -> bytes:
    return b"".join(bytes_field(_METHODS[method], _operation_bytes(one)) for method, one in operations.items())


def _operation_bytes(operation: Obj) -> bytes:
    out = b"".join(bytes_field(6, one.encode()) for one in operation["produces"])
    out += b"".join(bytes_field(7, one.encode()) for one in operation.get("consumes", ()))
    out += b"".join(bytes_field(8, bytes_field(1, _parameter_bytes(one))) for one in operation["parameters"])
    response = operation["responses"]["200"]
    content = bytes_field(1, response["description"].encode())
    content += bytes_field(2, bytes_field(1, _schema_bytes(response["schema"])))
    out += bytes_field(9, bytes_field(1, _named("200", bytes_field(1, content))))
    return out + _extensions(13, operation)


def _parameter_bytes(parameter: Obj) -> bytes:
    name, place = parameter["name"].encode(), parameter["in"].encode()
    if "schema" in parameter:
        schema = _schema_bytes(parameter["schema"])
        return bytes_field(
            1, bytes_field(2, name) + bytes_field(3, place) + number_field(4, 1) + bytes_field(5, schema)
        )
    query = bytes_field(2, place) + bytes_field(4, name) + bytes_field(6, parameter["type"].encode())
    return bytes_field(2, bytes_field(3, query + number_field(20, 1)))
