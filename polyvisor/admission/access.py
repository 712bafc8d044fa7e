"""Rules for access credentials: which Secret, into which guest's accounts, and by which way."""

from __future__ import annotations

import re

from polyvisor.admission.values import Findings, items, mapping, text, texts
from polyvisor.api import Obj
from polyvisor.api.metadata import dns_subdomain_error

SEEDS = {"noCloud": "cloudInitNoCloud", "configDrive": "cloudInitConfigDrive"}
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@$-]{0,63}")


def validate(spec: Obj, path: str, found: Findings) -> None:
    """Check the access credentials of an instance's spec."""
    volumes = {key for _, volume in items(spec.get("volumes"), "") for key in volume}
    for where, entry in items(spec.get("accessCredentials"), f"{path}.accessCredentials"):
        given = [kind for kind in ("sshPublicKey", "userPassword") if entry.get(kind) is not None]
        if len(given) != 1:
            found.required(where, "one of sshPublicKey, userPassword is wanted")
        for kind in given:
            _credential(mapping(entry, kind), f"{where}.{kind}", kind, volumes, found)


def _credential(credential: Obj, path: str, kind: str, volumes: set[str], found: Findings) -> None:
    name = text(mapping(credential, "source", "secret").get("secretName"))
    if not name:
        found.required(f"{path}.source.secret.secretName", "required; the Secret that holds it")
    elif error := dns_subdomain_error(name):
        found.add(f"{path}.source.secret.secretName", error)
    ways = ("qemuGuestAgent", *SEEDS) if kind == "sshPublicKey" else ("qemuGuestAgent",)
    methods, where = mapping(credential, "propagationMethod"), f"{path}.propagationMethod"
    given = [way for way in ways if methods.get(way) is not None]
    if len(given) != 1:
        found.required(where, f"one of {', '.join(ways)} is wanted")
    for way in given:
        if way in SEEDS and SEEDS[way] not in volumes:
            found.required(f"{where}.{way}", f"needs a volume of kind {SEEDS[way]}, which carries the keys")
        if way == "qemuGuestAgent" and kind == "sshPublicKey":
            users = texts(mapping(methods, way).get("users"))
            if not users:
                found.required(f"{where}.{way}.users", "required; the guest's users who are given the keys")
            for number, user in enumerate(users):
                if not _USER.fullmatch(user):
                    found.add(f"{where}.{way}.users[{number}]", f"{user[:80]!r} is no user's name")
