"""Remembering a probe's answer for as long as what it depends on stays the same; the host's boot always counts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from polyvisor.drivers.base import Cpus, ProbeResult

FILE = "answer.json"


def stamp(path: Path) -> str:
    """Return what tells one version of an installed file from another."""
    seen = path.stat()
    return f"{path}:{seen.st_size}.{seen.st_mtime_ns}"


def recall(scratch: Path, key: Sequence[str]) -> ProbeResult | None:
    """Return the answer that was kept under the same key on this boot."""
    try:
        found = json.loads((scratch / FILE).read_text())
        if found["key"] != _whole(key):
            return None
        return read(found["answer"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(scratch: Path, key: Sequence[str], answer: ProbeResult) -> ProbeResult:
    """Keep a good answer; a bad one is asked again next time, for its cause may be gone by then."""
    if answer.available:
        part = scratch / f"{FILE}.part"
        part.write_text(json.dumps({"key": _whole(key), "answer": written(answer)}))
        part.replace(scratch / FILE)
    return answer


def written(answer: ProbeResult) -> dict[str, Any]:
    """Return an answer as JSON can tell it."""
    return {**asdict(answer), "facts": sorted(answer.facts)}


def read(answer: dict[str, Any]) -> ProbeResult:
    """Return the answer that :func:`written` told."""
    lists = {"virt_types": tuple(answer["virt_types"]), "facts": frozenset(answer["facts"])}
    cpus = answer["cpus"] and {k: tuple(v) if isinstance(v, list) else v for k, v in answer["cpus"].items()}
    return ProbeResult(**{**answer, **lists, "cpus": Cpus(**cpus) if cpus else None})


def _whole(key: Sequence[str]) -> list[str]:
    return [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), *key]
