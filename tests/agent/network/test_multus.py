"""What Multus says of a Pod, and what is not there before it says so."""

from __future__ import annotations

import json

import pytest

from polyvisor.agent.live import status
from polyvisor.agent.network.facts import Device, Facts
from polyvisor.agent.network.multus import finished, told
from polyvisor.agent.network.plan import Card
from polyvisor.api import Obj
from polyvisor.api.names import NETWORK_STATUS_ANNOTATION

MORE = "poda2213f7c5db"


def pod(*interfaces: str) -> Obj:
    text = json.dumps([{"name": "any", "interface": name, "ips": []} for name in interfaces])
    return {"metadata": {"annotations": {NETWORK_STATUS_ANNOTATION: text}}}


def facts() -> Facts:
    return Facts({name: Device(name, "02:00:00:00:00:01", 1500, True) for name in ("lo", "eth0", MORE)})


@pytest.mark.parametrize("text", [None, "", "no json", "{}"])
def test_without_multus_all_counts_that_is_there(text: str | None) -> None:
    other: Obj = {"metadata": {"annotations": {} if text is None else {NETWORK_STATUS_ANNOTATION: text}}}
    assert told(other) is None
    assert finished(facts(), other) == facts()


def test_an_interface_is_there_once_multus_says_so() -> None:
    assert finished(facts(), pod("eth0")).devices.keys() == {"lo", "eth0"}
    assert finished(facts(), pod("eth0", MORE)) == facts()
    assert finished(facts(), pod()).devices.keys() == {"lo", "eth0"}, "the Pod's own interface is not Multus's"


@pytest.mark.parametrize(("said", "source"), [(pod("eth0", MORE), "domain, multus-status"), (pod("eth0"), "domain")])
def test_the_status_says_what_multus_said(said: Obj, source: str) -> None:
    found: Obj = {"interfaces": [{"name": "more", "infoSource": "domain"}]}
    card = Card("more", False, MORE, "k6t-1", "tap1", "02:00:00:00:00:02", 1500, multus=True)
    status.networked(found, [card], said, [])
    assert found["interfaces"][0]["infoSource"] == source
