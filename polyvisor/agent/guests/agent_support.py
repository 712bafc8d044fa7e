"""Whether the agent inside a guest can do what the status and the machine's spec need of it, by KubeVirt's rules."""

from __future__ import annotations

from collections.abc import Iterable

from polyvisor.api import Obj

BASIC = (
    "guest-ping guest-get-time guest-info guest-shutdown guest-network-get-interfaces guest-get-fsinfo"
    " guest-get-host-name guest-get-users guest-get-timezone guest-get-osinfo"
).split()
KEYS = "guest-ssh-get-authorized-keys guest-ssh-add-authorized-keys guest-ssh-remove-authorized-keys".split()
FILES = "guest-exec-status guest-exec guest-file-open guest-file-close guest-file-read guest-file-write".split()
"""By which keys are written where an agent has no commands for keys."""
PASSWORD = ["guest-set-user-password"]


def unsupported(vmi: Obj, commands: Iterable[Obj]) -> tuple[str, list[str]] | None:
    """Return why an agent does not suffice, and which commands it lacks; None if it does.

    ``commands`` are those of ``guest-info`` as ``supportedCommands`` has them.
    """
    has = {one["name"] for one in commands if one.get("enabled")}
    for why, sets in (
        ("basic", (BASIC,)),
        ("public key", (KEYS, FILES) if _wants(vmi, "sshPublicKey") else ()),
        ("password", (PASSWORD,) if _wants(vmi, "userPassword") else ()),
    ):
        if sets and not any(has.issuperset(names) for names in sets):
            return f"This guest agent doesn't support required {why} commands", sorted(set(sets[0]) - has)
    return None


def _wants(vmi: Obj, kind: str) -> bool:
    return any(
        ((one.get(kind) or {}).get("propagationMethod") or {}).get("qemuGuestAgent") is not None
        for one in vmi["spec"].get("accessCredentials") or []
    )
