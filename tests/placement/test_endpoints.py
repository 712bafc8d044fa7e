"""A machine is placed on nodes of the cluster, or on the host of one endpoint, and never on either."""

from __future__ import annotations

from polyvisor.api import Obj
from polyvisor.placement import place
from tests.placement.test_place import FakeDriver, config, node, spec, verdicts

LABEL = "hypervisor.kubevirt.io/endpoint"


def host(name: str, *drivers: str) -> Obj:
    """Return the Node of an endpoint."""
    found = node(f"endpoint-{name}", *drivers)
    found["metadata"]["labels"][LABEL] = name
    return found


def test_a_machine_that_names_no_endpoint_stays_in_the_cluster() -> None:
    driver = FakeDriver("alpha")
    found = place(spec(), config(), [host("rack4", "alpha", "alpha.fast")], [driver])
    assert verdicts(found) == {"alpha": "NoNode"}
    here = place(spec(), config(), [host("rack4", "alpha"), node("n1", "alpha", "alpha.fast")], [driver])
    assert here.endpoint == ""
    assert {"key": LABEL, "operator": "DoesNotExist"} in here.node_affinity


def test_a_machine_that_names_an_endpoint_goes_there_and_nowhere_else() -> None:
    nodes = [
        node("n1", "alpha", "alpha.fast"),
        host("rack4", "beta", "beta.fast"),
        host("rack5", "alpha", "alpha.fast"),
    ]
    drivers = [FakeDriver("alpha"), FakeDriver("beta")]
    found = place(spec(hypervisor={"endpoint": "rack4"}), config(), nodes, drivers)
    assert (found.driver.name if found.driver else "", found.endpoint) == ("beta", "rack4")
    assert {"key": LABEL, "operator": "In", "values": ["rack4"]} in found.node_affinity
    assert verdicts(found) == {"beta": "Chosen"}


def test_an_endpoint_without_a_node_is_named_as_the_reason() -> None:
    found = place(spec(hypervisor={"endpoint": "rack4"}), config(), [node("n1", "alpha")], [FakeDriver("alpha")])
    assert found.driver is None
    reason = found.candidates[0].reasons[0]
    assert reason.field == "spec.hypervisor.endpoint"
    assert "`polyvisor endpoint show rack4` says why" in reason.message


def test_what_no_endpoint_has_is_not_there_whatever_the_driver_says() -> None:
    drivers = [FakeDriver("alpha")]
    asked = spec(hypervisor={"endpoint": "rack4"})
    asked.domain.devices.autoattach_vsock = True
    found = place(asked, config(), [host("rack4", "alpha", "alpha.fast")], drivers)
    assert verdicts(found) == {"alpha": "Unsupported"}
    assert found.candidates[0].reasons[0].feature == "vsock"
