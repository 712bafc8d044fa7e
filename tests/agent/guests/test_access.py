from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.errors import AgentError
from polyvisor.agent.guests.access import AccessKeeper, seed_keys
from polyvisor.agent.link.connection import LauncherError

Obj = dict[str, Any]
AGENT = {"qemuGuestAgent": {"users": ["ann", "bob"]}}
KEYS = {"sshPublicKey": {"source": {"secret": {"secretName": "keys"}}, "propagationMethod": AGENT}}
PASSWORDS = {
    "userPassword": {"source": {"secret": {"secretName": "words"}}, "propagationMethod": {"qemuGuestAgent": {}}}
}


class World:
    """A machine, its guest's agent and the Secrets of its namespace; all that a keeper looks at."""

    path = Path("/nowhere")
    active = True

    def __init__(self, *credentials: Obj) -> None:
        metadata = {"name": "one", "namespace": "default", "uid": "u"}
        self.vmi: Obj = {"metadata": metadata, "spec": {"accessCredentials": list(credentials)}}
        self.state: Obj = {"state": "running", "agent": True}
        self.secrets: dict[str, dict[str, bytes]] = {"keys": {"a": b"ssh-ed25519 AAA ann\n"}, "words": {"ann": b"pw"}}
        self.commands: list[Obj] = []
        self.refuses: Exception | None = None
        self.events: list[str] = []
        self.told: list[str] = []
        self.keeper = AccessKeeper(self, self, lambda _: self, self.secrets_of, self.told.append)  # type: ignore[arg-type]

    async def secrets_of(self, _vmi: Obj) -> dict[str, dict[str, bytes]]:
        return self.secrets

    def get(self, *_: str) -> Obj:
        return self.vmi

    def by_index(self, *_: str) -> list[Obj]:
        return [self.vmi]

    def event(self, _obj: Obj, _kind: str, reason: str, message: str) -> None:
        self.events.append(reason)

    async def request(self, _operation: str, *, command: Obj, timeout: float, seconds: float) -> Obj:  # noqa: ASYNC109
        if self.refuses:
            raise self.refuses
        self.commands.append(command)
        return {"answer": {}}

    async def look(self) -> tuple[bool, str] | None:
        await self.keeper.reconcile(("default", "one"))
        return self.keeper.outcome(self.vmi)


async def test_keys_and_passwords_reach_the_guest_once() -> None:
    world = World(KEYS, PASSWORDS)
    assert await world.look() == (True, "")
    given = {(c["execute"], c["arguments"]["username"]): c["arguments"] for c in world.commands}
    assert given["guest-ssh-add-authorized-keys", "bob"]["keys"] == ["ssh-ed25519 AAA ann"]
    assert given["guest-ssh-add-authorized-keys", "ann"]["reset"] is True
    assert base64.b64decode(given["guest-set-user-password", "ann"]["password"]) == b"pw"
    assert len(world.commands) == 3
    await world.look()
    assert len(world.commands) == 3
    assert world.events == ["AccessCredentialsSyncSuccess"]


async def test_another_content_is_brought_in() -> None:
    world = World(KEYS)
    await world.look()
    world.secrets["keys"] = {"b": b"# a comment\nssh-rsa BBB\n\n", "c": b"ssh-rsa CCC"}
    await world.look()
    assert world.commands[-1]["arguments"]["keys"] == ["ssh-rsa BBB", "ssh-rsa CCC"]


async def test_a_guest_that_starts_anew_is_given_everything_anew() -> None:
    world = World(PASSWORDS)
    await world.look()
    world.state = {"state": "running", "agent": False}
    await world.look()
    world.state = {"state": "running", "agent": True}
    await world.look()
    assert len(world.commands) == 2


async def test_a_guest_without_agent_or_that_is_held_is_left_alone() -> None:
    world = World(PASSWORDS)
    for state in ({"state": "running", "agent": False}, {"state": "paused", "agent": True}):
        world.state = state
        assert await world.look() is None
    assert world.commands == []


async def test_a_missing_secret_is_waited_for() -> None:
    world = World(KEYS)
    found = world.secrets.pop("keys")
    assert await world.look() == (False, "Secret keys of the access credentials does not exist yet; waiting for it")
    await world.look()
    assert world.events == ["AccessCredentialsSyncFailed"]
    world.secrets["keys"] = found
    assert await world.look() == (True, "")


async def test_a_secret_that_comes_back_as_it_was_is_told() -> None:
    world = World(KEYS)
    await world.look()
    kept = world.secrets.pop("keys")
    assert (await world.look() or (True,))[0] is False
    world.secrets["keys"] = kept
    assert await world.look() == (True, "")


async def test_what_the_guest_has_half_of_is_brought_in_again() -> None:
    world = World(KEYS)
    await world.look()
    before = world.secrets["keys"]
    world.secrets["keys"], world.refuses = {"a": b"ssh-rsa BBB"}, LauncherError("no room", "guest-agent")
    await world.look()
    world.secrets["keys"], world.refuses = before, None
    given = len(world.commands)
    assert await world.look() == (True, "")
    assert len(world.commands) > given


async def test_what_the_agent_refuses_is_told_without_the_secret() -> None:
    world = World(PASSWORDS)
    world.refuses = LauncherError("child process has failed to set user password")
    outcome = await world.look()
    assert outcome == (False, "user ann: child process has failed to set user password")
    world.refuses = LauncherError("The command guest-set-user-password has not been found")
    outcome = await world.look()
    assert outcome == (False, "the guest's agent does not know guest-set-user-password")


@pytest.mark.parametrize("way", ["noCloud", "configDrive"])
def test_keys_of_a_seed(way: str) -> None:
    credential = {"source": {"secret": {"secretName": "keys"}}, "propagationMethod": {way: {}}}
    spec = {"accessCredentials": [{"sshPublicKey": credential}, KEYS]}
    assert seed_keys(spec, way, {"keys": {"k": b"ssh-rsa A\n"}}) == ["ssh-rsa A"]
    other = {"noCloud": "configDrive", "configDrive": "noCloud"}[way]
    assert seed_keys(spec, other, {}) == []
    with pytest.raises(AgentError, match="Secret keys of the access credentials does not exist yet"):
        seed_keys(spec, way, {})
