"""Who wrote what, from kube-apiserver's audit log."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

POLICY = """apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
"""
ASIDE = {"events", "leases", "nodes", "tokenreviews", "subjectaccessreviews", "localsubjectaccessreviews",
         "selfsubjectaccessreviews", "selfsubjectreviews", "tokens"}  # fmt: skip
"""What is not counted as a write of a machine: it is not kept, or is for people, or comes with time as a heartbeat."""
ACCOUNT = "system:serviceaccount:"


def arguments(folder: Path) -> tuple[str, ...]:
    """Return what kube-apiserver needs to write the log, after writing its policy."""
    (folder / "audit.yaml").write_text(POLICY)
    return (
        f"--audit-policy-file={folder}/audit.yaml",
        f"--audit-log-path={log(folder)}",
        "--audit-log-batch-buffer-size=1",
    )


def log(folder: Path) -> Path:
    """Return where the log lies."""
    return folder / "audit.log"


def writes(lines: Iterable[str], namespace: str) -> Counter[tuple[str, str]]:
    """Return (user, verb and resource) -> number, of what a system's service accounts wrote.

    ``namespace`` is the one that the system's service accounts live in. Refused writes carry their code.
    """
    found: Counter[tuple[str, str]] = Counter()
    for line in lines:
        entry = json.loads(line)
        user, what = entry["user"]["username"], entry.get("objectRef") or {}
        if not user.startswith(f"{ACCOUNT}{namespace}:") or what.get("resource") in ASIDE:
            continue
        if what.get("subresource") == "token":
            continue
        code = (entry.get("responseStatus") or {}).get("code", 200)
        name = "/".join(filter(None, (what.get("resource"), what.get("subresource"))))
        found[user.rpartition(":")[2], f"{entry['verb']} {name}" + (f" {code}" if code >= 300 else "")] += 1
    return found
