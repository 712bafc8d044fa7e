"""What the annotation for Multus becomes while a machine runs."""

from __future__ import annotations

import json

from polyvisor.api import Obj
from polyvisor.api.names import NETWORKS_ANNOTATION, pod_interface
from polyvisor.controllers.pod_networks import changed, wanted, written

BLUE = {"name": "one", "multus": {"networkName": "blue"}}
RED = {"name": "one", "multus": {"networkName": "other/red"}}
CARD = {"name": "one", "bridge": {}}
OURS = {"name": "blue", "namespace": "default", "interface": pod_interface(BLUE)}


def vmi(network: Obj, card: Obj, *told: str) -> Obj:
    return {
        "metadata": {"name": "m", "namespace": "default"},
        "spec": {"domain": {"devices": {"interfaces": [card]}}, "networks": [network]},
        "status": {"interfaces": [{"name": name} for name in told]},
    }


def pod(text: str | None) -> Obj:
    return {"metadata": {"annotations": {} if text is None else {NETWORKS_ANNOTATION: text}}}


def test_what_is_as_it_should_be_is_left() -> None:
    machine = vmi(BLUE, CARD)
    assert wanted(machine) == [OURS]
    assert changed(machine, pod(written([OURS]))) is None
    assert changed(machine, pod(json.dumps([OURS], indent=1))) is None, "its words may be others"
    assert changed(vmi(BLUE, CARD | {"state": "absent"}), pod(None)) is None


def test_a_network_comes_and_goes() -> None:
    assert changed(vmi(BLUE, CARD), pod(None)) == written([OURS])
    leaving = vmi(BLUE, CARD | {"state": "absent"}, "one")
    assert changed(leaving, pod(written([OURS]))) is None
    assert changed(vmi(BLUE, CARD | {"state": "absent"}), pod(written([OURS]))) == "[]"


def test_a_card_asks_for_its_address() -> None:
    (element,) = wanted(vmi(BLUE, CARD | {"macAddress": "02-AA-00-00-00-01"}))
    assert element == {**OURS, "mac": "02:aa:00:00:00:01"}


def test_another_network_under_the_same_name_takes_the_place() -> None:
    found = json.loads(changed(vmi(RED, CARD), pod(written([OURS]))) or "")
    assert found == [{"name": "red", "namespace": "other", "interface": OURS["interface"]}]


def test_what_others_ask_for_stays() -> None:
    theirs = {"name": "green", "namespace": "default", "interface": "net1"}
    assert json.loads(changed(vmi(BLUE, CARD), pod(written([theirs]))) or "") == [theirs, OURS]
    gone = vmi(BLUE, CARD | {"state": "absent"})
    assert json.loads(changed(gone, pod(written([theirs, OURS]))) or "") == [theirs]
    assert changed(vmi(BLUE, CARD), pod("default/green@net1")) is None, "short words are nobody's here"
