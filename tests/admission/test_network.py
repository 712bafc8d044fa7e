"""Rules for the Pod's network and the ways in which a card is joined to it, one at a time."""

from __future__ import annotations

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api.resources import VMIS
from tests.admission.conftest import Change, instance, put

NICS = "domain.devices.interfaces"

CASES: list[tuple[Change, str, str]] = [
    (put(f"{NICS}.0.binding", {"name": "x"}), f"{NICS}[0].binding", "yet; use masquerade: {}, or bridge: {}"),
    (put(f"{NICS}.0.macvtap", {}), f"{NICS}[0].macvtap", "use bridge: {} with a multus network"),
    (put(f"{NICS}.0.slirp", {}), f"{NICS}[0].slirp", "use masquerade: {}, which is a network in user mode"),
    (put(f"{NICS}.0.passt", {}), f"{NICS}[0].passt", "use masquerade: {}, which reaches as far"),
    (put("networks.0.pod.vmIPv6NetworkCIDR", "10.0.2.0/24"), "networks[0].pod.vmIPv6NetworkCIDR", "is no IPv6 network"),
    (
        put("networks.0.pod.vmIPv6NetworkCIDR", "fd10::/127"),
        "networks[0].pod.vmIPv6NetworkCIDR",
        "found the prefix 127",
    ),
    (put("networks.0.pod.vmIPv6NetworkCIDR", "fd10::/56"), "networks[0].pod.vmIPv6NetworkCIDR", "found the prefix 56"),
    (
        put("networks.0.pod.vmIPv6NetworkCIDR", "fe80::/64"),
        "networks[0].pod.vmIPv6NetworkCIDR",
        "no network that is routed",
    ),
]


@pytest.mark.parametrize(("change", "field", "words"), CASES, ids=[f"{field}: {words}" for _, field, words in CASES])
def test_it_is_refused(change: Change, field: str, words: str, context: AdmissionContext) -> None:
    problems = admit("CREATE", VMIS, instance(change), None, context).problems
    assert [problem.field for problem in problems] == [f"spec.{field}"], [str(p) for p in problems]
    assert words in problems[0].message


@pytest.mark.parametrize("cidr", ["fd10:0:2::/120", "fd00:1::/64", "2001:db8::/126"])
def test_a_network_of_ipv6_is_taken(cidr: str, context: AdmissionContext) -> None:
    vmi = instance(put("networks.0.pod.vmIPv6NetworkCIDR", cidr))
    assert not admit("CREATE", VMIS, vmi, None, context).problems
