"""The status of an endpoint, from what was observed."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.agent.platform.endpoint.failures import Failure, lost
from polyvisor.agent.platform.endpoint.inventory import Domain, HostInfo, domains_of, host_of
from polyvisor.agent.platform.endpoint.login import Secret
from polyvisor.agent.platform.endpoint.plan import Observed, status_of
from polyvisor.api import Obj
from tests.agent.platform.endpoint.conftest import endpoint

GIB = 1 << 30
HOST = HostInfo("qemu", "9.0.0", "7.2.22", "host", "5b5f36e8-98d9-4279-a668-f4ac5a6429ba", 8, 16 * GIB, events=True)
DOMAINS = (
    Domain("a", "one", 1, "running", 2, 2 * GIB),
    Domain("b", "two", -1, "shutoff", 4, 8 * GIB),
    Domain("c", "three", 2, "paused", 1, GIB, owner="ours"),
)
NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def status(now: str = NOW, before: Obj | None = None, spec: Obj | None = None, **seen: Any) -> Obj:
    obj = endpoint("qemu+ssh://h/system", **(spec or {}))
    if before is not None:
        obj["status"] = before
    return status_of(obj, Observed("qemu", "ours", **seen), now)


def conditions(status: Obj) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}


def test_a_connected_endpoint_is_ready_and_counts_its_domains() -> None:
    found = status(host=HOST, domains=DOMAINS, good=Secret("s", "7"), tried=Secret("s", "7"))
    assert {name: state for name, (state, _) in conditions(found).items()} == {
        "Ready": "True",
        "Reachable": "True",
        "Authenticated": "True",
        "Privileged": "True",
        "Supported": "True",
        "InventorySynced": "True",
        "Schedulable": "True",
        "Insecure": "False",
    }
    assert found["domains"] == {"managed": 1, "foreign": 2}
    assert found["capacity"] == {"cpu": "8", "memory": "16Gi", "pods": "1k"}
    assert found["allocatable"] == {"cpu": "6", "memory": "14Gi", "pods": "1k"}
    assert found["hostUUID"] == HOST.uuid
    assert found["credentials"] == {
        "good": {"name": "s", "resourceVersion": "7"},
        "tried": {"name": "s", "resourceVersion": "7"},
    }


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        ({"domains": (*DOMAINS, Domain("d", "four", 3, "running", 1, GIB, owner="another"))}, "ForeignOwner"),
        ({"domains": DOMAINS, "beside": ("endpoint rack5",)}, "SharedHost"),
    ],
)
def test_a_host_that_others_count_on_takes_no_machines_until_its_share_is_declared(seen: Obj, reason: str) -> None:
    found = status(host=HOST, **seen)
    assert conditions(found)["Schedulable"] == ("False", reason)
    assert conditions(found)["Ready"] == ("True", "Connected")
    share = {"capacity": {"cpu": 4, "memory": "8Gi"}}
    assert conditions(status(host=HOST, spec=share, **seen))["Schedulable"] == ("True", "TakesMachines")
    half = {"capacity": {"cpu": 4}}
    assert conditions(status(host=HOST, spec=half, **seen))["Schedulable"] == ("False", reason)


def test_a_declared_capacity_is_not_lessened() -> None:
    found = status(host=HOST, domains=DOMAINS, spec={"capacity": {"cpu": 4, "pods": 20}})
    assert found["capacity"] == {"cpu": "4", "memory": "16Gi", "pods": "20"}
    assert found["allocatable"] == {"cpu": "4", "memory": "14Gi", "pods": "20"}


def test_the_cpus_of_the_host_itself_are_not_taken_from_it() -> None:
    itself = Domain("0", "itself", 0, "running", 8, 2 * GIB)
    found = status(host=HOST, domains=(itself, *DOMAINS), itself="0")
    assert found["allocatable"] == {"cpu": "6", "memory": "12Gi", "pods": "1k"}


def test_nothing_is_known_before_the_first_answer() -> None:
    found = conditions(status())
    assert found["Ready"] == ("False", "Connecting")
    assert found["Reachable"] == found["Authenticated"] == ("Unknown", "Connecting")


def test_a_host_that_is_lost_keeps_its_numbers_and_says_since_when() -> None:
    before = status(host=HOST, domains=DOMAINS)
    gone = status(LATER, before, host=HOST, domains=DOMAINS, failure=lost("the host closed it"))
    found = conditions(gone)
    assert found["Ready"] == found["Reachable"] == ("False", "ConnectionLost")
    assert found["Authenticated"] == ("Unknown", "ConnectionLost")
    assert found["InventorySynced"][0] == "False"
    assert gone["domains"] == before["domains"]
    times = {one["type"]: one["lastTransitionTime"] for one in gone["conditions"]}
    assert (times["Ready"], times["Insecure"]) == (LATER, NOW)
    other = Failure("Reachable", "NoRoute", "no route", "look")
    still = status("2026-01-03T00:00:00Z", gone, host=HOST, domains=DOMAINS, failure=other)
    assert {one["type"]: one["lastTransitionTime"] for one in still["conditions"]}["Reachable"] == LATER


def test_refused_credentials_say_that_the_host_was_reached() -> None:
    failure = Failure("Authenticated", "CredentialsRefused", "denied", "check", again=False)
    found = conditions(status(failure=failure))
    assert found["Reachable"] == ("True", "Passed")
    assert found["Authenticated"] == ("False", "CredentialsRefused")
    assert found["Privileged"] == ("Unknown", "CredentialsRefused")


def test_a_missing_secret_says_nothing_of_the_host() -> None:
    failure = Failure("Authenticated", "SecretNotFound", "there is none", "make it", again=False)
    assert conditions(status(failure=failure))["Reachable"][0] == "Unknown"


def test_new_credentials_that_fail_leave_the_endpoint_ready() -> None:
    failure = Failure("Authenticated", "CredentialsRefused", "denied", "check", again=False)
    found = conditions(status(host=HOST, domains=DOMAINS, refused=failure))
    assert found["Ready"][0] == "True"
    assert found["Authenticated"] == ("False", "NewCredentialsRefused")


def test_an_old_libvirt_is_told() -> None:
    found = status(host=HostInfo("qemu", "6.9.0"), domains=())
    assert conditions(found)["Ready"] == ("False", "LibvirtTooOld")
    message = next(one["message"] for one in found["conditions"] if one["type"] == "Supported")
    assert message == "the host has libvirt 6.9.0; 7.0 or newer is supported"


def test_what_is_insecure_is_a_condition_that_everybody_sees() -> None:
    assert conditions(status(insecure="the connection is not encrypted"))["Insecure"] == ("True", "Allowed")


@pytest.mark.parametrize(
    "told",
    [None, 7, [None, 7, "x"], [{"name": "no uuid"}], [{"uuid": "../../etc", "name": "x"}]],
)
def test_what_is_no_domain_is_left_out(told: Any) -> None:
    assert domains_of(told) == []


def test_what_a_launcher_tells_is_checked() -> None:
    told = {
        "uuid": "8CAF51B2-132a-4eb3-b9cc-73b5429e9d17",
        "name": "a\nb" * 2000,
        "id": "x",
        "state": "exploded",
        "vcpus": -1,
        "memoryBytes": 1 << 70,
        "mark": "<o cluster='c'/>",
    }
    (found,) = domains_of([told])
    assert found.uuid == "8caf51b2-132a-4eb3-b9cc-73b5429e9d17"
    assert found.name.isprintable()
    assert len(found.name) <= 1024
    assert (found.id, found.state, found.vcpus, found.memory, found.owner) == (-1, "unknown", 0, 0, "c")
    assert host_of({"hostUUID": "x", "cpus": True, "libvirtVersion": 9}) == HostInfo()
