from __future__ import annotations

from typing import Any

import pytest

from polyvisor.admission.access import validate
from polyvisor.admission.values import Findings

Obj = dict[str, Any]
SOURCE = {"secret": {"secretName": "s"}}
USERS = {"qemuGuestAgent": {"users": ["debian"]}}
SEED = [{"name": "seed", "cloudInitNoCloud": {"userData": "x"}}]


def fields(entry: Obj, volumes: Any = ()) -> set[str]:
    found = Findings()
    validate({"accessCredentials": [entry], "volumes": list(volumes)}, "spec", found)
    return {problem.field.removeprefix("spec.accessCredentials[0]") for problem in found.problems}


def key(**fields: Any) -> Obj:
    return {"sshPublicKey": {"source": SOURCE, "propagationMethod": USERS} | fields}


def password(**fields: Any) -> Obj:
    return {"userPassword": {"source": SOURCE, "propagationMethod": {"qemuGuestAgent": {}}} | fields}


@pytest.mark.parametrize(
    ("entry", "volumes"),
    [(key(), ()), (password(), ()), (key(propagationMethod={"noCloud": {}}), SEED)],
)
def test_good_credentials(entry: Obj, volumes: Any) -> None:
    assert fields(entry, volumes) == set()


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({}, ""),
        (key() | password(), ""),
        (key(source={}), ".sshPublicKey.source.secret.secretName"),
        (key(source={"secret": {"secretName": "A/b"}}), ".sshPublicKey.source.secret.secretName"),
        (key(propagationMethod={}), ".sshPublicKey.propagationMethod"),
        (key(propagationMethod=USERS | {"noCloud": {}}), ".sshPublicKey.propagationMethod"),
        (
            key(propagationMethod={"qemuGuestAgent": {"users": []}}),
            ".sshPublicKey.propagationMethod.qemuGuestAgent.users",
        ),
        (
            key(propagationMethod={"qemuGuestAgent": {"users": ["a b"]}}),
            ".sshPublicKey.propagationMethod.qemuGuestAgent.users[0]",
        ),
        (key(propagationMethod={"configDrive": {}}), ".sshPublicKey.propagationMethod.configDrive"),
        (password(propagationMethod={}), ".userPassword.propagationMethod"),
    ],
)
def test_bad_credentials_are_refused_where_they_are_bad(entry: Obj, field: str) -> None:
    assert field in fields(entry, SEED)
