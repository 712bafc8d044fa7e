"""What is known of this machine's drivers by the agent, which is asked to try them again first."""

from __future__ import annotations

import json
from typing import Any

import pytest

from polyvisor.api import node_names
from polyvisor.cli import client as clients
from polyvisor.cli.drivers import lacking, try_again
from polyvisor.kube.errors import ApiError

OLD = [{"name": "one", "available": False}]
NEW = [{"name": "one", "available": True}]
NODE = {"metadata": {"annotations": {node_names.DRIVERS_ANNOTATION: json.dumps(OLD)}}}


class Server:
    """Answers the request for another try as it is told to, and has one Node."""

    connection = None

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __call__(self, *_: Any) -> Server:
        return self

    def request(self, method: str, path: str) -> Any:
        assert (method, path) == ("POST", node_names.DRIVERS_PATH)
        if isinstance(self.answer, ApiError):
            raise self.answer
        return self.answer

    def get(self, path: str) -> Any:
        assert path == "/api/v1/nodes"
        return {"items": [NODE]}

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("answer", "report"),
    [
        ({"drivers": NEW}, NEW),
        (ApiError(404, "NotFound", "no such path"), OLD),
        (ApiError(503, "ServiceUnavailable", "the node agent is still starting"), OLD),
    ],
    ids=["asked", "an earlier release", "still starting"],
)
def test_the_agent_tries_again_where_it_can(answer: Any, report: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server: Any = Server(answer)
    monkeypatch.setattr(clients, "Client", server)
    assert try_again(server) == report


def test_any_other_refusal_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    server: Any = Server(ApiError(401, "Unauthorized", "no token"))
    monkeypatch.setattr(clients, "Client", server)
    with pytest.raises(ApiError, match="no token"):
        try_again(server)


@pytest.mark.parametrize(("names", "found"), [(["one"], OLD), (["one", "two"], []), (["unheard"], []), ([], [])])
def test_a_machine_lacks_a_driver_if_none_of_those_it_names_works(names: list[str], found: Any) -> None:
    assert lacking([*OLD, {"name": "two", "available": True}], names) == found
