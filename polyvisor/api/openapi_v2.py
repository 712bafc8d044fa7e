"""OpenAPI version 2 (Swagger) made from documents of version 3: for older clients, and for Kubernetes' aggregator.

Version 2 has no ``anyOf``, so what may be a number or text has no type there but ``x-kubernetes-int-or-string``,
as Kubernetes publishes it.
"""

from __future__ import annotations

from polyvisor.api.base import Obj

_REF = "#/components/schemas/"


def convert(info: Obj, documents: list[Obj]) -> Obj:
    """Return one document of version 2 from those of version 3, one for each group version."""
    definitions: Obj = {}
    paths: Obj = {}
    for document in documents:
        for name, schema in document["components"]["schemas"].items():
            definitions[name] = _schema(schema)
        for path, operations in document["paths"].items():
            paths[path] = {method: _operation(one) for method, one in operations.items()}
    return {"swagger": "2.0", "info": info, "paths": paths, "definitions": definitions}


def _schema(schema: Obj) -> Obj:
    if "$ref" in schema:
        return {"$ref": schema["$ref"].replace(_REF, "#/definitions/")}
    found = {name: value for name, value in schema.items() if name != "anyOf"}
    if found.get("x-kubernetes-int-or-string"):
        found.pop("type", None)
    if "properties" in found:
        found["properties"] = {name: _schema(one) for name, one in found["properties"].items()}
    for name in ("items", "additionalProperties"):
        if isinstance(found.get(name), dict):
            found[name] = _schema(found[name])
    return found


def _operation(operation: Obj) -> Obj:
    extensions = {name: value for name, value in operation.items() if name.startswith("x-")}
    parameters = [_parameter(one) for one in operation["parameters"]]
    found: Obj = {"produces": ["application/json"], "parameters": parameters, **extensions}
    if "operationId" in operation:
        found["operationId"] = operation["operationId"]
    if content := operation.get("requestBody", {}).get("content"):
        found["consumes"] = list(content)
        schema = _schema(next(iter(content.values()))["schema"])
        required = operation["requestBody"].get("required", True)
        parameters.append({"name": "body", "in": "body", "required": required, "schema": schema})
    found["responses"] = {code: _response(one) for code, one in operation["responses"].items()}
    return found


def _parameter(parameter: Obj) -> Obj:
    place = {"name": parameter["name"], "in": parameter["in"], "type": "string", "uniqueItems": True}
    return {**place, "required": True} if parameter["in"] == "path" else place


def _response(response: Obj) -> Obj:
    content = response.get("content")
    schema = {"schema": _schema(next(iter(content.values()))["schema"])} if content else {}
    return {"description": response["description"], **schema}
