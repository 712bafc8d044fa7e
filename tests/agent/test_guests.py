"""When a guest's agent is asked, and when again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from polyvisor.agent.guests import EARLY_SECONDS, INTERVAL_SECONDS, GuestKeeper

VMI: dict[str, Any] = {"metadata": {"name": "one", "namespace": "default", "uid": "u"}}
CARD = {"name": "eth0", "ip-addresses": [{"ip-address": "10.0.0.2", "ip-address-type": "ipv4", "prefix": 24}]}


async def test_a_guest_that_holds_still_is_asked_soon_again() -> None:
    answers: dict[str, Any] = {"guest-fsfreeze-status": "thawed", "guest-network-get-interfaces": [CARD]}

    async def request(_: str, command: dict[str, Any], **_more: Any) -> dict[str, Any]:
        return {"answer": answers.get(command["execute"])}

    link: Any = SimpleNamespace(state={"agent": True, "state": "running"}, request=request)
    vmis: Any = SimpleNamespace(get=lambda *_: VMI)
    told: list[str] = []
    keeper = GuestKeeper(vmis, lambda _: link, told.append)
    assert await keeper.reconcile(("default", "one")) == INTERVAL_SECONDS
    answers["guest-fsfreeze-status"] = "frozen"
    assert await keeper.reconcile(("default", "one")) == EARLY_SECONDS
    assert keeper.report(VMI)["freeze"] == "frozen"
    assert told == ["u", "u"]
