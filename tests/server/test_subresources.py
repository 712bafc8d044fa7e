"""What may be done to an instance: by its driver's table, and by its state. Pure functions, and every route's gate."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.drivers import DriverRegistry, registry
from polyvisor.drivers.base import Support, Verdict
from polyvisor.drivers.features import BY_ID
from polyvisor.server.errors import Refusal
from polyvisor.server.subresources_discovery import ACTIONS, resource_list
from polyvisor.server.subresources_gate import FEATURES, check, having
from polyvisor.server.subresources_instances import allowed
from polyvisor.server.subresources_machines import seconds
from polyvisor.server.subresources_streamable import may_stream
from tests.drivers_for_tests import FakeDriver

Obj = dict[str, Any]


def vmi(driver: str = "", phase: str = "Running", *conditions: str, **spec: Any) -> Obj:
    found = [{"type": kind, "status": "True"} for kind in conditions]
    chosen = {"driver": driver, "virtType": "kvm", "libvirtVersion": "9.0.0", "version": "7.2.0"}
    status = {"phase": phase, "conditions": found, **({"hypervisor": chosen} if driver else {})}
    return {"metadata": {"name": "demo"}, "spec": {"domain": {}, **spec}, "status": status}


def test_every_gate_is_a_feature_and_a_subresource() -> None:
    known = {action for actions in ACTIONS.values() for action in actions}
    assert set(FEATURES.values()) <= set(BY_ID)
    assert set(FEATURES) <= known


@pytest.mark.parametrize("action", sorted(FEATURES))
@pytest.mark.parametrize("name", registry().names())
def test_the_table_decides(name: str, action: str) -> None:
    """Whatever the table says of a driver is what its users are told."""
    driver = registry().get(name)
    assert driver
    support = driver.features[FEATURES[action]]
    if support.verdict is Verdict.SUPPORTED:
        check(registry(), vmi(name), action)
    elif support.verdict is Verdict.UNSUPPORTED:
        with pytest.raises(Refusal) as caught:
            check(registry(), vmi(name), action)
        status = caught.value.to_obj()
        assert (status["code"], status["reason"], status["kind"]) == (400, "BadRequest", "Status")
        assert support.reason in status["message"]
        able = having(registry(), FEATURES[action])
        assert driver not in able
        for other in able:
            assert f"{other.title} ({other.name})" in status["message"]


def test_conditions_of_the_table_are_held_against_the_machine() -> None:
    def gate(**conditions: Any) -> None:
        table = {"lifecycle.vnc": Support(Verdict.CONDITIONAL, "somewhere", "it is new", **conditions)}
        check(DriverRegistry([FakeDriver("one", table=table)]), vmi("one"), "vnc")

    gate(virt_types=("kvm",))
    gate(min_libvirt="8.5.0")
    gate(node_fact=True)
    for unmet in ({"virt_types": ("soft",)}, {"min_libvirt": "9.0.1"}, {"min_hypervisor": "8.0.0"}):
        with pytest.raises(Refusal, match="it is new"):
            gate(**unmet)


def test_what_the_table_leaves_out_is_refused() -> None:
    forgetful = FakeDriver("one")
    forgetful._table.pop("lifecycle.reset")
    with pytest.raises(Refusal, match=r"not known whether .* no driver can in this release"):
        check(DriverRegistry([forgetful]), vmi("one"), "reset")


def test_machines_without_a_driver_are_for_others_to_refuse() -> None:
    check(registry(), vmi(), "vnc")
    check(registry(), vmi("from-elsewhere"), "vnc")


@pytest.mark.parametrize(
    ("action", "machine", "code", "message"),
    [
        ("pause", vmi(phase="Scheduled"), 409, "VM is not running"),
        ("pause", vmi("", "Running", "Paused"), 409, "VMI is already paused"),
        ("pause", vmi(livenessProbe={"tcpSocket": {"port": 1}}), 403, "non-GuestAgentPing LivenessProbe"),
        ("unpause", vmi(), 409, "VMI is not paused"),
        ("unpause", vmi(phase="Failed"), 409, "VMI is not running"),
        ("softreboot", vmi("", "Running", "Paused"), 409, "VMI is paused"),
        ("softreboot", vmi(domain={"features": {"acpi": {"enabled": False}}}), 409, "neither have the agent"),
        ("softreboot", vmi(phase="Succeeded"), 409, "VM is not running"),
        ("reset", vmi(phase="Pending"), 400, "Failed to reset non-running VMI with phase Pending"),
        ("freeze", vmi(), 409, "guest agent"),
        ("unfreeze", vmi(), 409, "guest agent"),
        ("guestosinfo", vmi(), 409, "guest agent"),
        ("userlist", vmi(phase="Scheduling"), 409, "VMI is not running"),
    ],
)
def test_states_in_which_it_cannot_be_done(action: str, machine: Obj, code: int, message: str) -> None:
    with pytest.raises(Refusal, match=message) as caught:
        allowed(machine, action)
    assert caught.value.code == code


NO_CONSOLE = {"devices": {"autoattachSerialConsole": False}}
NO_SCREEN = {"devices": {"autoattachGraphicsDevice": False}}
USB = {"devices": {"clientPassthrough": {}}}


@pytest.mark.parametrize("phase", ["", "Pending", "Scheduling", "Scheduled", "Running", "Succeeded", "Failed"])
def test_streams_are_refused_with_the_codes_that_clients_act_on(phase: str) -> None:
    """KubeVirt's client asks again on 400: 409 is for what stays as it is."""

    def code(action: str, *conditions: str, **spec: Any) -> int:
        try:
            may_stream(vmi("", phase, *conditions, **spec), action)
        except Refusal as refusal:
            return refusal.code
        return 0

    starting = 0 if phase == "Running" else 400
    assert code("console") == (409 if phase == "Failed" else starting)
    assert code("console", domain=NO_CONSOLE) == 400
    for action in ("vnc", "vnc/screenshot"):
        assert code(action) == starting
        assert code(action, domain=NO_SCREEN) == 400
    assert code("usbredir", domain=USB) == starting
    assert code("usbredir") == 409
    assert code("portforward") == 400
    assert code("portforward", "Paused") == 409


def test_states_in_which_it_can() -> None:
    allowed(vmi(livenessProbe={"guestAgentPing": {}}), "pause")
    for action in ("pause", "softreboot", "reset"):
        allowed(vmi(), action)
    allowed(vmi("", "Running", "Paused"), "unpause")
    allowed(vmi("", "Running", "Paused"), "reset")
    agent = vmi("", "Running", "AgentConnected")
    for action in ("freeze", "unfreeze", "guestosinfo", "userlist", "filesystemlist"):
        allowed(agent, action)
    allowed(agent | {"spec": {"domain": {"features": {"acpi": {"enabled": False}}}}}, "softreboot")


@pytest.mark.parametrize(
    ("text", "found"),
    [("5m0s", 300.0), ("1h2m3.5s", 3723.5), ("300ms", 0.3), ("", 0.0), (None, 0.0), ("0", 0.0), ("0s", 0.0)],
)
def test_durations(text: Any, found: float) -> None:
    assert seconds(text) == pytest.approx(found)


@pytest.mark.parametrize("text", ["5", "m", "5 m", "-5m", "5mm", 5, ["5m"], "1e3s", "5m x"])
def test_no_durations(text: Any) -> None:
    with pytest.raises(Refusal) as caught:
        seconds(text)
    assert caught.value.code == 400


def test_discovery_names_both_versions_alike() -> None:
    new, old = resource_list("v1"), resource_list("v1alpha3")
    assert new["resources"] == old["resources"]
    assert {"name": "expand-vm-spec", "verbs": ["update"]}.items() <= new["resources"][-1].items()
