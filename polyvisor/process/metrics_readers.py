"""Who may read ``/metrics`` whole: whoever shows a token of the cluster that has the right to ``get`` the path.

The API server is asked both questions, whose token it is (TokenReview) and what that user may do (SubjectAccessReview),
as with Kubernetes' own components. KubeVirt asks for no token, and its tools send none: without one, an answer has only
the figures that name neither a machine nor a namespace.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from polyvisor.api.cluster_resources import SUBJECT_ACCESS_REVIEWS, TOKEN_REVIEWS
from polyvisor.api.reading import read_status
from polyvisor.kube.client import KubeClient
from polyvisor.kube.errors import ApiError

PATH = "/metrics"
NAMING = frozenset(["namespace", "node"])
"""Labels of the figures that only an authorized reader sees; whatever names a machine names its namespace too."""
MAX_TOKEN = 16 * 1024
MAX_AT_ONCE = 4
"""How many tokens are reviewed at the same time: strangers may send as many as they like."""
log = logging.getLogger("polyvisor.process")


class MetricsReaders:
    """Judges tokens."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)

    async def judge(self, authorization: str) -> int:
        """Return 200 for an ``Authorization`` header whose bearer may read, else the HTTP status to refuse with."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip() or len(token) > MAX_TOKEN:
            return 401
        try:
            async with self._turns:
                user = await self._user(token.strip())
                if user is None:
                    return 401
                return 200 if await self._may(user) else 403
        except ApiError as error:
            log.warning("a token for %s could not be reviewed: %s", PATH, error)
            return 503

    async def _user(self, token: str) -> dict[str, Any] | None:
        review = {"apiVersion": TOKEN_REVIEWS.api_version, "kind": TOKEN_REVIEWS.kind, "spec": {"token": token}}
        status = (await self._client.create(TOKEN_REVIEWS, review)).get("status") or {}
        return dict(status.get("user") or {}) if status.get("authenticated") is True else None

    async def _may(self, user: dict[str, Any]) -> bool:
        spec = {
            "user": user.get("username") or "",
            "groups": user.get("groups") or [],
            "uid": user.get("uid") or "",
            "extra": user.get("extra") or {},
            "nonResourceAttributes": {"path": PATH, "verb": "get"},
        }
        review = {"apiVersion": SUBJECT_ACCESS_REVIEWS.api_version, "kind": SUBJECT_ACCESS_REVIEWS.kind, "spec": spec}
        answer = await self._client.create(SUBJECT_ACCESS_REVIEWS, review)
        return read_status(answer).get("allowed") is True


class Nameless(Collector):
    """The figures of a registry without those that name a machine or a namespace."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        """Give each figure none of whose samples has a label that names."""
        for metric in self._registry.collect():
            if not any(NAMING & sample.labels.keys() for sample in metric.samples):
                yield metric
