"""What a launcher lets happen to a domain that it sends away, with the test in the monitor's place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polyvisor.launcher.machine import Refused
from polyvisor.launcher.moving import Moving


class Machine:
    def __init__(self) -> None:
        self.resumed = 0

    def resume(self) -> None:
        self.resumed += 1


class Plan:
    folder = Path("/nowhere")
    move: dict[str, str] = {}  # noqa: RUF012


def sending(status: str) -> tuple[Moving, Machine]:
    """Return a move out that has come so far."""
    machine: Any = Machine()
    plan: Any = Plan()
    moving = Moving(machine, plan, lambda: None, lambda _: None)
    moving._sends = True
    moving._note(status)
    return moving, machine


@pytest.mark.parametrize("status", ["setup", "active", "pre-switchover", "device", "completed"])
def test_a_guest_that_may_be_the_targets_cannot_be_let_go_on(status: str) -> None:
    """A user's unpause would have it run on both sides."""
    moving, machine = sending(status)
    with pytest.raises(Refused, match="is being moved"):
        moving.resume()
    assert not machine.resumed


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_guest_whose_sending_came_to_nothing_can_be_let_go_on(status: str) -> None:
    moving, machine = sending(status)
    moving.resume()
    assert machine.resumed == 1


def test_a_guest_that_was_sent_in_vain_can_be_let_go_on_and_be_sent_again() -> None:
    moving, machine = sending("completed")
    moving.stay()
    moving._note("completed")  # what the monitor says of it for as long as nothing else is sent
    assert moving.state == {"moving": "cancelled"}
    moving.resume()
    assert machine.resumed == 1


def test_a_guest_that_has_gone_on_here_does_not_wait_any_more() -> None:
    """Else its agent would take the next pause for the end of the move, and let it go on again."""
    machine: Any = Machine()
    plan: Any = Plan()
    moving = Moving(machine, plan, lambda: None, lambda _: None)
    moving._note("completed")
    assert moving.state == {"moving": "received"}
    moving.resume()
    moving._note("completed")
    assert moving.state == {"moving": "arrived"}
    assert machine.resumed == 1


def test_a_guest_that_is_being_sent_is_not_kept_by_a_word() -> None:
    moving, _ = sending("active")
    moving.stay()
    assert moving.state == {"moving": "active"}
