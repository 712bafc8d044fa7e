"""Who reads a process's figures: with a token that may, all of them; with none, those that name nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from polyvisor.api.figures import FIGURES
from polyvisor.process.health import Health
from polyvisor.process.metrics_readers import MAX_TOKEN, NAMING, MetricsReaders
from tests.cluster import running

USERS = {"scraper": "prometheus", "guest": "guest"}


@dataclass
class Reviews:
    tokens: list[str] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    status: int = 201

    async def token(self, request: Request) -> JSONResponse:
        token = (await request.json())["spec"]["token"]
        self.tokens.append(token)
        user = {"username": USERS.get(token, ""), "groups": ["g"], "uid": "u", "extra": {"e": ["1"]}}
        return JSONResponse({"status": {"authenticated": token in USERS, "user": user}}, self.status)

    async def access(self, request: Request) -> JSONResponse:
        spec = (await request.json())["spec"]
        self.asked.append(spec)
        return JSONResponse({"status": {"allowed": spec["user"] == "prometheus"}}, self.status)

    def routes(self) -> list[Route]:
        return [
            Route("/apis/authentication.k8s.io/v1/tokenreviews", self.token, methods=["POST"]),
            Route("/apis/authorization.k8s.io/v1/subjectaccessreviews", self.access, methods=["POST"]),
        ]


@pytest.fixture
def reviews() -> Reviews:
    return Reviews()


@pytest.fixture
async def web(tmp_path: Path, reviews: Reviews) -> AsyncIterator[httpx.AsyncClient]:
    registry = CollectorRegistry()
    Gauge("of_machine", "One machine's.", ("namespace", "name"), registry=registry).labels("ns", "secret-vm").set(1)
    Gauge("of_all", "Of all.", ("phase",), registry=registry).labels("Running").set(7)
    health = Health()
    async with running(tmp_path, extra_routes=reviews.routes()) as client:
        health.readers = MetricsReaders(client)
        transport = httpx.ASGITransport(Starlette(routes=health.routes(registry)))
        async with httpx.AsyncClient(transport=transport, base_url="http://component") as found:
            yield found


async def test_a_token_that_may_reads_everything(web: httpx.AsyncClient, reviews: Reviews) -> None:
    answer = await web.get("/metrics", headers={"authorization": "Bearer scraper"})
    assert answer.status_code == 200
    assert 'of_machine{name="secret-vm",namespace="ns"} 1.0' in answer.text
    (asked,) = reviews.asked
    assert asked["nonResourceAttributes"] == {"path": "/metrics", "verb": "get"}
    assert (asked["groups"], asked["uid"], asked["extra"]) == (["g"], "u", {"e": ["1"]})


async def test_without_a_token_no_machine_is_named(web: httpx.AsyncClient, reviews: Reviews) -> None:
    answer = await web.get("/metrics")
    assert answer.status_code == 200
    assert 'of_all{phase="Running"} 7.0' in answer.text
    assert "secret-vm" not in answer.text
    assert "of_machine" not in answer.text
    assert reviews.tokens == []


@pytest.mark.parametrize(
    ("header", "status"),
    [("Bearer guest", 403), ("Bearer unknown", 401), ("Basic eDp5", 401), ("Bearer ", 401), ("Bearer", 401)],
)
async def test_a_token_that_may_not_is_refused(web: httpx.AsyncClient, header: str, status: int) -> None:
    answer = await web.get("/metrics", headers={"authorization": header})
    assert (answer.status_code, "of_" in answer.text) == (status, False)


async def test_a_token_without_end_is_not_sent_on(web: httpx.AsyncClient, reviews: Reviews) -> None:
    answer = await web.get("/metrics", headers={"authorization": f"Bearer {'x' * (MAX_TOKEN + 1)}"})
    assert (answer.status_code, len(reviews.tokens)) == (401, 0)


async def test_while_the_api_server_fails_nothing_is_shown(web: httpx.AsyncClient, reviews: Reviews) -> None:
    reviews.status = 403
    answer = await web.get("/metrics", headers={"authorization": "Bearer scraper"})
    assert (answer.status_code, "of_" in answer.text) == (503, False)


async def test_probes_take_no_token(web: httpx.AsyncClient, reviews: Reviews) -> None:
    for path in ("/livez", "/readyz", "/healthz", "//healthz"):
        assert (await web.get(f"http://component{path}")).status_code == 200
    assert reviews.tokens == []


def test_each_figure_of_a_machine_has_a_label_by_which_it_is_left_out() -> None:
    for figure in FIGURES:
        if "name" in figure.labels and not figure.name.startswith("kubevirt_workqueue_"):
            assert NAMING & set(figure.labels), figure.name
