"""What a request of the aggregated API is about: the right that is asked for is the right for what is done."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.server.frontproxy import attributes_of

AT = "/apis/subresources.kubevirt.io/v1/namespaces/ns"


@pytest.mark.parametrize(
    ("method", "path", "verb", "name", "subresource"),
    [
        ("GET", "virtualmachineinstances/m/console", "get", "m", "console"),
        ("GET", "virtualmachineinstances/m/vnc", "get", "m", "vnc"),
        ("GET", "virtualmachineinstances/m/vnc/screenshot", "get", "m", "vnc/screenshot"),
        ("PUT", "virtualmachines/m/start", "update", "m", "start"),
        ("GET", "virtualmachineinstances/m/sev/fetchcertchain", "get", "m", "sev/fetchcertchain"),
        ("PUT", "virtualmachines/m/start/more", "update", "m", "start/more"),
        # a port and a protocol are no part of the right
        ("GET", "virtualmachineinstances/m/portforward/22/tcp", "get", "m", "portforward"),
    ],
)
def test_the_whole_name_of_a_subresource_is_asked_for(
    method: str, path: str, verb: str, name: str, subresource: str
) -> None:
    found: dict[str, Any] = attributes_of(method, f"{AT}/{path}") or {}
    assert (found["verb"], found["name"], found["subresource"]) == (verb, name, subresource)
    assert (found["namespace"], found["resource"]) == ("ns", path.partition("/")[0])


def test_discovery_is_about_nothing() -> None:
    assert attributes_of("GET", "/apis/subresources.kubevirt.io/v1") is None


@pytest.mark.parametrize("rest", ["", "domains", "domains/a domain", "pools", "networks", "adoption"])
def test_what_is_asked_of_a_host_takes_a_right_on_its_endpoint(rest: str) -> None:
    found = attributes_of("GET", f"/apis/subresources.kubevirt.io/v1/hypervisorendpoints/rack4/{rest}") or {}
    assert (found["resource"], found["name"], found["verb"]) == ("hypervisorendpoints", "rack4", "get")
    assert found["namespace"] == ""
    assert found.get("subresource", "") == rest.partition("/")[0]
