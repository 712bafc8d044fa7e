"""Alerts, recorded figures and the dashboard ask for figures that there are, by labels that these have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from polyvisor.api.figures import BY_NAME, FIGURES
from polyvisor.installation.render import manifests

MONITORING = Path(__file__).resolve().parents[2] / "deploy" / "monitoring"
GROUPS = yaml.safe_load((MONITORING / "rules.yaml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
RECORDED = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
PANELS = {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}
EXPRESSIONS = {**RECORDED, **{name: rule["expr"] for name, rule in ALERTS.items()}, **PANELS}
SUFFIXES = {"_bucket": {"le"}, "_sum": set(), "_count": set()}
TARGET = {"pod", "job", "instance", "namespace"}
"""Labels that Prometheus itself gives each sample."""


def parsed(expression: str) -> Any:
    return promql_parser.parse(expression.replace("$__rate_interval", "5m"))


def inside(node: Any) -> Iterator[Any]:
    """Give a node of an expression and all below it."""
    yield node
    for name in ("lhs", "rhs", "expr", "param", "vector_selector"):
        below = getattr(node, name, None)
        if below is not None and type(below).__module__ == "promql_parser":
            yield from inside(below)
    for argument in getattr(node, "args", None) or []:
        yield from inside(argument)


def selectors(expression: str) -> list[Any]:
    return [node for node in inside(parsed(expression)) if isinstance(node, promql_parser.VectorSelector)]


def labels_of(name: str) -> set[str]:
    """The labels of a figure, of a part of a histogram, or of what a rule records."""
    if name == "up":
        return TARGET
    if name in RECORDED:
        return grouped(RECORDED[name]) | set().union(*(labels_of(one.name) for one in selectors(RECORDED[name])))
    for suffix, more in SUFFIXES.items():
        figure = BY_NAME.get(name.removesuffix(suffix)) if name.endswith(suffix) else None
        if figure is not None and figure.kind == "histogram":
            return {*figure.labels, *more, *TARGET}
    assert name in BY_NAME, f"no process serves {name}"
    assert BY_NAME[name].kind != "histogram", f"{name} is a histogram: ask for one of {', '.join(SUFFIXES)}"
    return {*BY_NAME[name].labels, *TARGET}


def grouped(expression: str) -> set[str]:
    modifiers = [getattr(node, "modifier", None) for node in inside(parsed(expression))]
    return {label for one in modifiers for label in getattr(one, "labels", None) or []}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_asks_for_what_there_is(name: str) -> None:
    found = selectors(EXPRESSIONS[name])
    assert found, "an expression without a figure says nothing"
    known = set().union(*(labels_of(one.name) for one in found))
    assert grouped(EXPRESSIONS[name]) <= known
    for one in found:
        asked = {matcher.name for matcher in one.matchers.matchers}
        assert asked <= labels_of(one.name), one.name


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_a_rate_is_of_what_only_rises(name: str) -> None:
    for node in inside(parsed(EXPRESSIONS[name])):
        if isinstance(node, promql_parser.Call) and node.func.name in ("rate", "increase", "irate"):
            figure = node.args[0].vector_selector.name
            assert figure.endswith("_bucket") or BY_NAME[figure].kind == "counter", figure


@pytest.mark.parametrize(
    "name", ["kubevirt_no_such_thing", "sum by (colour) (kubevirt_vmi_info)", "kubevirt_vmi_info{a='b'}"]
)
def test_what_there_is_not_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXPRESSIONS, "wrong", name)
    with pytest.raises(AssertionError):
        test_an_expression_asks_for_what_there_is("wrong")


def test_every_alert_says_how_bad_it_is_and_what_it_means() -> None:
    assert len(ALERTS) >= 10
    for rule in ALERTS.values():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"].endswith(".")


def test_names_are_of_prometheus_own_shape_and_once() -> None:
    names = [figure.name for figure in FIGURES]
    assert len(set(names)) == len(names)
    for figure in FIGURES:
        assert figure.name.startswith(("kubevirt_", "polyvisor_"))
        assert figure.name.endswith("_total") == (figure.kind == "counter"), figure.name
        assert figure.help.endswith((".", "1."))


def test_the_chart_brings_them_where_they_are_asked_for() -> None:
    assert {"ServiceMonitor", "PrometheusRule"} & {one["kind"] for one in manifests()} == set()
    everything = manifests("machines", [{"monitoring": {"enabled": True}}])
    found = {one["kind"]: one for one in everything}
    assert found["PrometheusRule"]["spec"]["groups"] == GROUPS
    assert json.loads(found["ConfigMap"]["data"]["polyvisor.json"]) == DASHBOARD
    selector = found["ServiceMonitor"]["spec"]["selector"]["matchLabels"]
    services = [one for one in manifests() if one["kind"] == "Service"]
    (service,) = [one for one in services if one["metadata"].get("labels") == selector]
    (endpoint,) = found["ServiceMonitor"]["spec"]["endpoints"]
    assert endpoint["scheme"] == "https"
    assert {port["name"]: port["targetPort"] for port in service["spec"]["ports"]}[endpoint["port"]] == "metrics"
    token = found["Secret"]["metadata"]
    assert endpoint["authorization"]["credentials"] == {"name": token["name"], "key": "token"}
    account = token["annotations"]["kubernetes.io/service-account.name"]
    bound = [one for one in everything if one["kind"] == "ClusterRoleBinding" and account in str(one.get("subjects"))]
    (role,) = [one for one in everything if one["metadata"]["name"] == bound[0]["roleRef"]["name"] and "rules" in one]
    assert role["rules"] == [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}], "a token sent to who knows whom"


def test_no_component_listens_without_tls_and_each_may_be_scraped() -> None:
    pods = {
        one["metadata"]["name"]: one["spec"]["template"]["spec"]
        for one in manifests()
        if "template" in (one.get("spec") or {})
    }
    assert len(pods) == 4
    policies = {one["metadata"]["name"]: one["spec"] for one in manifests() if one["kind"] == "NetworkPolicy"}
    for name, pod in pods.items():
        main = pod["containers"][0]
        assert {"name": "metrics", "containerPort": 8443} in main["ports"], name
        assert {one["containerPort"] for one in main["ports"]} <= {8443, 8186}, name
        for probe in ("readinessProbe", "livenessProbe"):
            asked = main[probe]["httpGet"]
            assert (asked["port"], asked["scheme"]) == ("metrics", "HTTPS"), name
        doors = [one for one in policies[name]["ingress"] if {"port": "metrics"} in one["ports"]]
        others = [one for door in doors for one in door.get("from", [{}])]
        monitoring = {"namespaceSelector": {"matchLabels": {"prometheus.kubevirt.io": "true"}}}
        assert monitoring in others or (name == "virt-api" and others == [{}]), name
