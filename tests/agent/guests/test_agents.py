"""When a guest's agent is asked, and when again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from polyvisor.agent.guests.agent_support import BASIC, FILES, KEYS, PASSWORD
from polyvisor.agent.guests.agents import EARLY_SECONDS, INTERVAL_SECONDS, GuestKeeper
from polyvisor.agent.live.status import guest
from polyvisor.api import Obj

VMI: Obj = {"metadata": {"name": "one", "namespace": "default", "uid": "u"}, "spec": {}}
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


def spec(**methods: str) -> Obj:
    credentials = [{kind: {"propagationMethod": {method: {}}}} for kind, method in methods.items()]
    return {"metadata": VMI["metadata"], "spec": {"accessCredentials": credentials}}


@pytest.mark.parametrize(
    ("vmi", "commands", "why", "lacking"),
    [
        (spec(), BASIC, None, []),
        (spec(), BASIC[1:], "basic", ["guest-ping"]),
        (spec(sshPublicKey="qemuGuestAgent"), BASIC, "public key", sorted(KEYS)),
        (spec(sshPublicKey="qemuGuestAgent"), [*BASIC, *KEYS], None, []),
        (spec(sshPublicKey="qemuGuestAgent"), [*BASIC, *FILES], None, []),
        (spec(sshPublicKey="configDrive"), BASIC, None, []),
        (spec(userPassword="qemuGuestAgent"), BASIC, "password", PASSWORD),
        (spec(userPassword="qemuGuestAgent"), [*BASIC, *PASSWORD], None, []),
    ],
)
async def test_an_agent_that_lacks_commands_is_told_of(vmi: Obj, commands: list[str], why: Any, lacking: Any) -> None:
    listed = [{"name": name, "enabled": True} for name in commands] + [{"name": "guest-ping", "enabled": False}]
    answers: Obj = {"guest-fsfreeze-status": "thawed", "guest-info": {"version": "9", "supported_commands": listed}}

    async def request(_: str, command: dict[str, Any], **_more: Any) -> dict[str, Any]:
        return {"answer": answers.get(command["execute"])}

    link: Any = SimpleNamespace(state={"agent": True, "state": "running"}, request=request)
    vmis: Any = SimpleNamespace(get=lambda *_: vmi)
    keeper = GuestKeeper(vmis, lambda _: link, lambda _: None)
    await keeper.reconcile(("default", "one"))
    status: Obj = {"conditions": [{"type": "AgentVersionNotSupported", "status": "True", "reason": "before"}]}
    guest(status, vmi, True, keeper.report(vmi))
    found = [one for one in status["conditions"] if one["type"] == "AgentVersionNotSupported"]
    assert [one["reason"] for one in found] == (
        [f"This guest agent doesn't support required {why} commands"] if why else []
    )
    assert all(f"missing: {', '.join(lacking)};" in one["message"] for one in found)
    guest(status, vmi, False, {})
    assert status["conditions"] == []
