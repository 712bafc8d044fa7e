"""What the user behind an AdmissionReview may do otherwise, found out for rules that are plain functions.

A rule asks; what is not known yet counts as allowed, and the rules are asked again once the API server has answered.
What isn't obvious: the answer decides on what is stored, so a SubjectAccessReview that fails is an error, never a no.
"""

from __future__ import annotations

import asyncio
from typing import Any

from polyvisor.admission.context import Access, Requester
from polyvisor.api.cluster_resources import SUBJECT_ACCESS_REVIEWS
from polyvisor.api.reading import read_status
from polyvisor.kube.client import KubeClient

Obj = dict[str, Any]
MAX_ASKED = 64
"""How many things one review may depend on; an object that names more is refused."""


class TooManyQuestions(Exception):
    """An object refers to more than is looked at for one review."""


class Rights:
    """The answers about one user. ``components`` are the users that Polyvisor's own parts are."""

    def __init__(self, client: KubeClient, user: Obj, components: frozenset[str]) -> None:
        self._client = client
        self._user = user
        name = str(user.get("username") or "")
        self.requester = Requester(name, name in components, self._may)
        self._known: dict[Access, bool] = {}
        self._asked: set[Access] = set()

    def _may(self, access: Access) -> bool:
        if access not in self._known:
            self._asked.add(access)
        return self._known.get(access, True)

    async def settled(self) -> bool:
        """Find out what was asked; return whether all of it was known already."""
        if not self._asked:
            return True
        asked = sorted(self._asked)
        if len(self._known) + len(asked) > MAX_ASKED:
            raise TooManyQuestions(f"the object depends on more than {MAX_ASKED} rights of its writer")
        self._asked.clear()
        answers = await asyncio.gather(*(review_access(self._client, self._user, one) for one in asked))
        self._known.update(zip(asked, answers, strict=True))
        return False


async def review_access(client: KubeClient, user: Obj, access: Access) -> bool:
    """Ask the API server whether a user, as an AdmissionReview's ``userInfo`` names one, may do something."""
    attributes = {key: value for key, value in access._asdict().items() if value}
    spec = {
        "user": user.get("username") or "",
        "groups": user.get("groups") or [],
        "uid": user.get("uid") or "",
        "extra": user.get("extra") or {},
        "resourceAttributes": attributes,
    }
    review = {"apiVersion": SUBJECT_ACCESS_REVIEWS.api_version, "kind": SUBJECT_ACCESS_REVIEWS.kind, "spec": spec}
    answer = await client.create(SUBJECT_ACCESS_REVIEWS, review)
    return bool(read_status(answer).get("allowed"))
