"""A machine that names no endpoint goes to one where no node of the cluster fits; what keeps it from each is said."""

from __future__ import annotations

from typing import Any

from polyvisor.api import Obj
from polyvisor.drivers.base import Support
from polyvisor.placement import place
from polyvisor.placement.offers import Elsewhere, Offer, elsewhere
from polyvisor.placement.result import Placement
from tests.drivers_for_tests import FakeDriver, no, node
from tests.placement.test_place import config, spec

ALPHA, BETA = FakeDriver("alpha"), FakeDriver("beta", ("box",), frozenset())
LOCAL = node("n1", "alpha", "alpha.fast")
SPACE: Obj = {"metadata": {"name": "shop", "labels": {"team": "a"}}}
ALL: Obj = {"selector": {}}


def host(name: str, *labels: str) -> Obj:
    found = node(f"endpoint-{name}", *labels)
    found["metadata"]["labels"]["hypervisor.kubevirt.io/endpoint"] = name
    return found


def endpoint(name: str, **more: Any) -> Obj:
    settings = {"uri": "x", "allowedNamespaces": ALL, "networks": [{"name": "pod", "network": "lan"}], **more}
    return {"metadata": {"name": name}, "spec": settings}


def placed(*nodes: Obj, beside: Elsewhere, **more: Any) -> Placement:
    return place(more.pop("spec", spec()), config(), nodes, [ALPHA, BETA], beside=beside, **more)


def told(found: Placement) -> list[tuple[str, str, str]]:
    return [(one.driver, one.endpoint, str(one.verdict)) for one in found.candidates]


RACK = Elsewhere((Offer("rack4"),))


def test_a_node_of_the_cluster_comes_before_every_endpoint() -> None:
    found = placed(LOCAL, host("rack4", "beta", "beta.box"), beside=RACK)
    assert (found.driver, found.endpoint, found.offered) == (ALPHA, "", False)


def test_where_no_node_fits_the_first_endpoint_that_does_is_chosen_and_shown() -> None:
    found = placed(host("rack4", "beta", "beta.box"), beside=Elsewhere((Offer("empty"), Offer("rack4"))))
    assert found.driver is not None
    assert (found.driver.name, found.endpoint, found.offered) == ("beta", "rack4", True)
    assert {"key": "hypervisor.kubevirt.io/endpoint", "operator": "In", "values": ["rack4"]} in found.node_affinity
    assert ("beta", "rack4", "Chosen") in told(found)
    assert found.to_status()["endpoint"] == "rack4"
    assert "at endpoint rack4" in found.told()


def test_what_an_endpoint_lacks_keeps_a_machine_from_it() -> None:
    from polyvisor.api.problems import Problem

    why = Problem("spec.networks[0]", "endpoint rack4 maps no network 'pod'")
    found = placed(host("rack4", "beta", "beta.box"), beside=Elsewhere((Offer("rack4", (why,)),)))
    assert found.driver is None
    assert ("beta", "rack4", "NoNode") in told(found)
    assert "beta at endpoint rack4: spec.networks[0]: endpoint rack4 maps no network" in found.explain()


def test_a_driver_without_room_at_one_place_is_tried_at_the_next() -> None:
    nodes = (node("n1", "beta", "beta.box"), host("rack4", "beta", "beta.box"))
    found = placed(*nodes, beside=RACK, unschedulable={"beta": "no room"})
    assert (found.endpoint, found.offered) == ("rack4", True)
    found = placed(*nodes, beside=RACK, unschedulable={"beta": "no room", "beta@rack4": "nor here"})
    assert found.driver is None
    assert ("beta", "rack4", "Unschedulable") in told(found)


def test_a_disk_on_a_host_ties_the_machine_to_it() -> None:
    from polyvisor.api.problems import Problem

    tied = (Problem("spec.volumes[0]", "claim data is a disk on the host of endpoint rack4"),)
    found = placed(LOCAL, host("rack4", "beta", "beta.box"), beside=Elsewhere((Offer("rack4"),), tied))
    assert (found.endpoint, found.offered) == ("rack4", True)
    assert placed(LOCAL, beside=Elsewhere((), tied)).driver is None


def test_features_are_judged_as_they_are_on_endpoints() -> None:
    table: dict[str, Support] = {"network.pod": no("there is none here")}
    lacking = FakeDriver("beta", ("box",), frozenset(), table)
    asked = spec(networks=[{"name": "default", "pod": {}}])
    found = place(asked, config(), [host("rack4", "beta", "beta.box")], [lacking], beside=RACK)
    assert found.driver is None


def offered(vm: Obj, *endpoints: Obj, claims: Obj | None = None, volumes: Obj | None = None) -> Elsewhere:
    return elsewhere(vm, SPACE, endpoints, claims or {}, volumes or {})


def test_a_namespace_hears_nothing_of_endpoints_that_it_may_not_use() -> None:
    closed = endpoint("closed", allowedNamespaces={"selector": {"matchLabels": {"team": "b"}}})
    observed = endpoint("watched", management="Observe")
    assert offered({}, closed, observed, endpoint("open")) == Elsewhere((Offer("open"),))


def test_networks_pools_and_states_are_looked_at() -> None:
    away = {"conditions": [{"type": "Schedulable", "status": "False", "message": "it is away"}]}
    wanted = {"networks": [{"name": "a", "pod": {}}, {"name": "b", "multus": {"networkName": "dmz"}}],
              "volumes": [{"name": "root", "containerDisk": {"image": "x"}}]}  # fmt: skip
    (found,) = offered(wanted, {**endpoint("rack4"), "status": away}).offers
    assert [(one.field, one.message) for one in found.problems] == [
        ("", "endpoint rack4 takes no machines now: it is away"),
        ("spec.networks[1]", "endpoint rack4 maps no network 'shop/dmz'"),
        ("spec.volumes[0]", "endpoint rack4 maps no storage pool"),
    ]


def claim(volume: str = "", storage: str = "", phase: str = "Bound") -> Obj:
    return {"spec": {"volumeName": volume, "storageClassName": storage}, "status": {"phase": phase}}


def test_claims_decide_where_a_machine_may_go() -> None:
    vm = {"volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]}
    csi = {"driver": "endpoint.hypervisor.kubevirt.io", "volumeHandle": "rack4/images/a"}
    volumes = {"pv": {"spec": {"csi": csi}}}
    ends = (endpoint("rack4", storage=[{"storageClass": "images", "pool": "p"}]), endpoint("rack5"))
    there = offered(vm, *ends, claims={"data": claim("pv")}, volumes=volumes)
    assert [one.message for one in there.tied] == ["claim data is a disk on the host of endpoint rack4"]
    assert [bool(one.problems) for one in there.offers] == [False, True]
    here = offered(vm, *ends, claims={"data": claim()})
    assert not here.tied
    assert [bool(one.problems) for one in here.offers] == [True, True]
    waits = offered(vm, *ends, claims={"data": claim("", "images", "Pending")})
    assert [bool(one.problems) for one in waits.offers] == [False, True]
