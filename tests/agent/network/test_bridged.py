"""The node's own part of bridged networks, as far as it is a matter of values; the rest runs in tests/e2e."""

from __future__ import annotations

import json
from ipaddress import IPv4Network

import pytest

from polyvisor.agent.errors import AgentError
from polyvisor.agent.network.bridged import definition, free


def test_a_network_that_nobody_uses_is_chosen() -> None:
    devices = [{}, {"ifname": "polyvisor0", "addr_info": [{"family": "inet", "local": "10.88.0.1", "prefixlen": 24}]}]
    routes = [{"dst": "default"}, {"dst": "10.88.1.0/25"}, {"dst": "10.88.2.7"}]
    assert free(json.dumps(devices), json.dumps(routes)) == ("polyvisor1", IPv4Network("10.88.3.0/24"))
    assert free("[]", "[]") == ("polyvisor0", IPv4Network("10.88.0.0/24"))
    with pytest.raises(AgentError, match="uses every part"):
        free("[]", json.dumps([{"dst": "10.0.0.0/8"}]))


def attachment(config: object) -> dict[str, object]:
    return {"spec": {"config": config if isinstance(config, str) else json.dumps(config)}}


def test_a_definition_names_a_bridge() -> None:
    assert definition("x", attachment({"type": "bridge", "bridge": "br1"})) == ("br1", 1500)
    listed = {"plugins": [{"type": "bridge", "bridge": "br1", "mtu": 9000}]}
    assert definition("x", attachment(listed)) == ("br1", 9000)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ("", "is not the JSON"),
        ("[]", "is not the JSON"),
        ({"plugins": []}, "is not the JSON"),
        ({"type": "macvlan", "master": "eth0"}, "must be of type bridge"),
        ({"type": "bridge"}, "must be of type bridge"),
        ({"type": "bridge", "bridge": "../br1"}, "must be of type bridge"),
        ({"type": "bridge", "bridge": "br1", "ipam": {"type": "host-local"}}, "without ipam"),
    ],
)
def test_a_definition_that_asks_for_more_is_refused(config: object, why: str) -> None:
    with pytest.raises(AgentError, match=why) as caught:
        definition("NetworkAttachmentDefinition a/b", attachment(config))
    assert not caught.value.retry
