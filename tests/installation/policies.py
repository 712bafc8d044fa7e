"""Judges a write by the chart's admission policies, as an API server does, without one: for tests.

Expressions are evaluated by Google's own runtime of CEL. What an API server does beside it is here in short: it looks
at policies whose rules and conditions match, evaluates variables when they are used, and an expression that fails
counts as a refusal. ``tests/e2e/test_guards.py`` asks a real API server the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from cel_expr_python import cel

from polyvisor.installation.render import manifests

Obj = dict[str, Any]
NAMESPACE = "kubevirt"
VARIABLE = re.compile(r"\bvariables\.(\w+)")
PARAMS = {"data": {"endpoint-rack4": ""}}
"""The ConfigMap of Nodes that stand for hosts, with one."""
CONFIG = "name: policies\nextensions:\n- name: optional\n- name: strings\n"


def account(name: str) -> str:
    return f"system:serviceaccount:{NAMESPACE}:{name}"


@cache
def _environment() -> Any:
    names = dict.fromkeys(("object", "oldObject", "params", "request", "variables"), cel.Type.DYN)
    return cel.NewEnv(config=cel.NewEnvConfigFromYaml(CONFIG), variables=names)


@cache
def _compiled(expression: str) -> Any:
    return _environment().compile(expression)


@cache
def _policies() -> tuple[Obj, ...]:
    everything = manifests(NAMESPACE)
    bound = {one["spec"]["policyName"] for one in everything if one["kind"] == "ValidatingAdmissionPolicyBinding"}
    found = [one for one in everything if one["kind"] == "ValidatingAdmissionPolicy"]
    assert {one["metadata"]["name"] for one in found} == bound, "a policy that nothing binds holds nobody"
    return tuple(found)


def _matches(rule: Mapping[str, Any], operation: str, group: str, resource: str) -> bool:
    return (
        group in rule["apiGroups"] and (operation in rule["operations"]) and resource in rule["resources"]
    )  # of our rules none has a wildcard for these


class _Review:
    def __init__(self, policy: Obj, data: Obj) -> None:
        self._known = {one["name"]: one["expression"] for one in policy["spec"].get("variables") or []}
        self._data = data
        self._values: Obj = {}

    def value(self, expression: str) -> Any:
        for name in dict.fromkeys(VARIABLE.findall(expression)):
            if name not in self._values:
                self._values[name] = self.value(self._known[name])
        found = _compiled(expression).eval(data={**self._data, "variables": self._values})
        return found.plain_value()


def refusals(
    user: str,
    operation: str,
    resource: str,
    obj: Obj | None,
    old: Obj | None = None,
    *,
    group: str = "",
    extra: Mapping[str, list[str]] | None = None,
) -> list[str]:
    """Return the messages of all policies that refuse a write."""
    info: Obj = {"username": user, **({"extra": dict(extra)} if extra is not None else {})}
    name = ((obj or old or {}).get("metadata") or {}).get("name", "")
    plural, _, part = resource.partition("/")
    request = {"userInfo": info, "operation": operation, "name": name, "subResource": part}
    request["resource"] = {"group": group, "version": "v1", "resource": plural}
    data = {"object": obj, "oldObject": old, "params": PARAMS, "request": request}
    found = []
    for policy in _policies():
        spec = policy["spec"]
        if not any(_matches(rule, operation, group, resource) for rule in spec["matchConstraints"]["resourceRules"]):
            continue
        review = _Review(policy, data)
        if not all(review.value(one["expression"]) is True for one in spec.get("matchConditions") or []):
            continue
        for one in spec["validations"]:
            try:
                holds = review.value(one["expression"])
            except Exception as error:
                found.append(f"{policy['metadata']['name']}: {one['expression']}: {error}")
                continue
            if holds is not True:
                told = one.get("message") or str(review.value(one["messageExpression"]))
                found.append(told)
    return found
