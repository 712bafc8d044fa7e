"""What is said of a change to a machine that runs."""

from __future__ import annotations

import copy
from typing import Any

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api import Obj
from polyvisor.api.resources import VMS
from polyvisor.drivers import DriverRegistry
from tests.admission.conftest import Fake, machine, no

STUCK = Fake("stuck", ("box",), {}, lifecycle__hotplug__cpu=no("the number is fixed"))
NIMBLE = Fake("nimble", ("box",), {})


def changed(*drivers: Fake, created: bool = True, **domain: Any) -> list[str]:
    """Admit a machine, change it, and return the warnings of the change."""
    context = AdmissionContext({}, DriverRegistry(list(drivers)))
    stored = admit("CREATE", VMS, machine(), None, context).obj
    stored["status"] = {"created": created}
    new: Obj = copy.deepcopy(stored)
    new["spec"]["template"]["spec"]["domain"].update(domain)
    done = admit("UPDATE", VMS, new, stored, context)
    assert not done.problems
    return done.warnings


def test_a_change_that_waits_for_a_restart_is_told_with_the_reason() -> None:
    (warning,) = changed(STUCK, cpu={"cores": 4})
    assert warning.startswith("spec.template.spec.domain.cpu: takes effect when the machine is restarted")
    assert "STUCK: the number is fixed" in warning


def test_what_the_driver_changes_while_it_runs_is_not_told() -> None:
    (warning,) = changed(NIMBLE, cpu={"cores": 4})
    assert "more sockets alone, up to maxSockets" in warning
    assert changed(STUCK, memory={"guest": "3Gi"}) == []


def test_several_drivers_that_cannot_are_pointed_to() -> None:
    other = Fake("other", ("box",), {}, lifecycle__hotplug__cpu=no("nor here"))
    (warning,) = changed(STUCK, other, cpu={"cores": 4})
    assert "polyvisor features --feature lifecycle.hotplug.cpu" in warning


def test_a_machine_that_does_not_run_is_changed_without_a_word() -> None:
    assert changed(STUCK, created=False, cpu={"cores": 4}) == []


def test_another_hypervisor_waits_for_a_restart() -> None:
    context = AdmissionContext({}, DriverRegistry([STUCK, NIMBLE]))
    stored = admit("CREATE", VMS, machine(), None, context).obj
    stored["status"] = {"created": True}
    new = copy.deepcopy(stored)
    new["spec"]["template"]["spec"]["hypervisor"] = {"driver": "nimble"}
    (warning,) = admit("UPDATE", VMS, new, stored, context).warnings
    assert warning.startswith("spec.template.spec.hypervisor: the hypervisor is chosen again")


def test_a_card_is_told_of_only_where_it_waits() -> None:
    first: Obj = {"name": "default", "masquerade": {}}
    networks = [{"name": "default", "pod": {}}]
    slow = Fake("slow", ("box",), {}, lifecycle__hotplug__link=no("a link is fixed"))

    def warned(driver: Fake, **card: Any) -> list[str]:
        context = AdmissionContext({}, DriverRegistry([driver]))
        vm = machine()
        vm["spec"]["template"]["spec"]["domain"]["devices"]["interfaces"] = [first]
        vm["spec"]["template"]["spec"]["networks"] = networks
        stored = admit("CREATE", VMS, vm, None, context).obj
        stored["status"] = {"created": True}
        new = copy.deepcopy(stored)
        new["spec"]["template"]["spec"]["domain"]["devices"]["interfaces"] = [first | card]
        return admit("UPDATE", VMS, new, stored, context).warnings

    assert warned(NIMBLE, state="down") == []
    (warning,) = warned(slow, state="down")
    assert "SLOW: a link is fixed" in warning
    (warning,) = warned(NIMBLE, macAddress="02:00:00:00:00:01")
    assert "its state alone can change" in warning
