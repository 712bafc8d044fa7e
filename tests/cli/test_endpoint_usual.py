"""What is asked of a host that has just been added."""

from __future__ import annotations

from typing import Any, cast

import pytest

from polyvisor.cli import endpoint_usual
from polyvisor.cli.client import Client
from polyvisor.kube.errors import ApiError


class Answers:
    """A client whose server gives one answer after the other."""

    def __init__(self, *answers: dict[str, Any] | ApiError) -> None:
        self.left = list(answers)

    def get(self, _: str) -> dict[str, Any]:
        answer = self.left.pop(0)
        if isinstance(answer, ApiError):
            raise answer
        return answer


ENDED = ApiError(503, "ServiceUnavailable", "the launcher has ended")


def told(monkeypatch: pytest.MonkeyPatch, *answers: dict[str, Any] | ApiError) -> list[dict[str, Any]]:
    monkeypatch.setattr(endpoint_usual, "AGAIN_SECONDS", 0)
    return endpoint_usual._told(cast(Client, Answers(*answers)), "/pools")


def test_a_connection_that_ends_meanwhile_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, ENDED, ENDED, {"items": [{"name": "default"}]}) == [{"name": "default"}]


def test_what_is_refused_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ApiError, match="not yours"):
        told(monkeypatch, ApiError(403, "Forbidden", "not yours"), {"items": []})


def test_a_connection_that_does_not_come_back_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ApiError, match="the launcher has ended"):
        told(monkeypatch, *[ENDED] * endpoint_usual.TRIES)
