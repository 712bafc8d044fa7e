"""What a pause leaves in a machine's status: the next request goes by it, so a pause is done once it is there."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from polyvisor.api.conditions import has_condition
from polyvisor.api.names import VmiCondition
from polyvisor.api.reading import read_status

if TYPE_CHECKING:
    from polyvisor.api import Obj
    from polyvisor.kube import Informer

AFTER = {"pause": True, "unpause": False}
SHOWN_SECONDS = 10.0
"""How long the status is waited for, which is written within a moment unless the API server is away."""


async def shown(vmis: Informer, vmi: Obj, operation: str) -> None:
    """Wait until a machine's status shows that it was paused, or let go; nothing for other operations."""
    wanted, uid = AFTER.get(operation), vmi["metadata"]["uid"]
    if wanted is None:
        return

    def is_shown(found: Informer) -> bool:
        same = [one for one in found.items() if one["metadata"]["uid"] == uid]
        return not same or has_condition(read_status(same[0]), VmiCondition.PAUSED) is wanted

    with suppress(TimeoutError):
        await vmis.wait_until(is_shown, SHOWN_SECONDS)
