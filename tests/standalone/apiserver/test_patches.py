"""JSON patches that do not fit: what is said of them, and what of the object is not said."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import CONFIGMAPS, Running, configmap, is_status


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ({"op": "replace", "path": "/data/none/y", "value": 1}, "operation 1 (replace /data/none/y): there is no such"),
        ({"op": "remove", "path": "/data/none"}, "operation 1 (remove /data/none): there is no such place"),
        ({"op": "add", "path": "/data/k/y", "value": 1}, "operation 1 (add /data/k/y): there is no such place"),
        ({"op": "move", "from": "/data/none", "path": "/data/k"}, "(move /data/none to /data/k): there is no such"),
        ({"op": "copy", "from": "/none/x", "path": "/data/k"}, "(copy /none/x to /data/k): there is no such place"),
        ({"op": "test", "path": "/data/k", "value": "x"}, "testing value /data/k failed"),
        ({"op": "nonsense", "path": "/data"}, "Unknown operation 'nonsense'"),
        ({"op": "add", "path": 3, "value": 1}, "Invalid 'path'"),
        ("text", "operation 1 is not an object"),
    ],
)
async def test_a_patch_that_does_not_fit_is_named_and_the_object_is_not_shown(
    server: Running, operation: Any, message: str
) -> None:
    await server.post(CONFIGMAPS, configmap("a", {"k": "v-to-be-kept"}))
    first = {"op": "add", "path": "/data/new", "value": "n"}
    headers = {"content-type": "application/json-patch+json"}
    answer = await server.client.patch(f"{CONFIGMAPS}/a", json=[first, operation], headers=headers)
    said = is_status(answer, 422, "Invalid")
    assert message in said
    assert "v-to-be-kept" not in said
    assert "new" not in (await server.client.get(f"{CONFIGMAPS}/a")).json()["data"]
