"""Reading ``plan.json``: how to reach libvirt for one machine, as plain data that the agent wrote.

Everything is checked before anything is done, so that a half-written or foreign plan ends in one clear sentence.
Paths in a plan are relative to the launcher's folder and cannot leave it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

PROTOCOL = 1


class PlanError(Exception):
    """The plan cannot be used; the text says why."""


class Plan(NamedTuple):
    """The agent's plan, checked. The fields are those of ``LauncherPlan`` in the drivers' seam.

    ``metrics`` says in which ways the guest is told of its host (``channel``, ``disk``), which is called ``node``.

    No dataclass: that module brings ``inspect`` with it, which costs each machine's launcher 1.2 MiB.
    """

    folder: Path
    name: str
    uuid: str
    uri: str
    driver: str
    files: dict[str, str]
    seeds: dict[str, str]
    links: dict[str, str]
    daemon: list[str]
    environment: dict[str, str]
    binds: dict[str, str]
    unmounts: list[str]
    start_paused: bool
    shutdown: list[str]
    strays: list[str]
    poll_seconds: float
    own_uuids: bool
    reboot: tuple[str, ...]
    forward: dict[str, str]
    move: dict[str, str]
    agent: str
    forbidden: list[str]
    console_log: bool
    metrics: list[str]
    node: str

    def prepare(self) -> None:
        """Write the plan's files, links and seeds below the folder; what is there already stays as it is.

        The files' texts, which may be large, are forgotten.
        """
        while self.files:
            relative, text = self.files.popitem()
            path = self._below(relative)
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                for token, value in _tokens().items():
                    text = text.replace(token, value)
                path.write_text(text)
                if text.startswith("#!"):
                    path.chmod(0o700)
        for relative, target in self.links.items():
            path = self._below(relative)
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.is_symlink():
                path.symlink_to(target)
        for relative, source in self.seeds.items():
            _seed(Path(source), self._below(relative))
        for relative in self.binds.values():
            self._below(relative).mkdir(parents=True, exist_ok=True)

    def _below(self, relative: str) -> Path:
        return _below(self.folder, relative)


def read_plan(folder: Path) -> Plan:
    """Read and check ``folder/plan.json``; raise :class:`PlanError` with one sentence where it cannot be used."""
    path = folder / "plan.json"
    try:
        raw = json.loads(path.read_text())
    except OSError as error:
        raise PlanError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise PlanError(f"{path} is not whole JSON ({error}); the agent must write it anew") from None
    if not isinstance(raw, dict):
        raise PlanError(f"{path}: an object is expected")
    if raw.get("protocol") != PROTOCOL:
        raise PlanError(f"{path}: protocol {raw.get('protocol')!r} is not spoken here, only {PROTOCOL}")
    domain = _typed(path, raw, "domain", dict)
    plan = Plan(
        folder=folder,
        name=_typed(path, domain, "name", str),
        uuid=_typed(path, domain, "uuid", str),
        uri=_typed(path, raw, "uri", str),
        driver=_typed(path, raw, "driver", str, ""),
        files=_strings(path, raw, "files"),
        seeds=_strings(path, raw, "seeds"),
        links=_strings(path, raw, "links"),
        daemon=_list(path, raw, "daemon"),
        environment=_strings(path, raw, "environment"),
        binds=_strings(path, raw, "binds"),
        unmounts=_list(path, raw, "unmounts"),
        start_paused=_typed(path, raw, "start_paused", bool, False),
        shutdown=_list(path, raw, "shutdown") or ["default"],
        strays=_list(path, raw, "strays"),
        own_uuids=_typed(path, raw, "own_uuids", bool, False),
        poll_seconds=float(_typed(path, raw, "poll_seconds", (int, float), 0.0)),
        reboot=tuple(_list(path, raw, "reboot")) or ("default",),
        forward=_strings(path, raw, "forward"),
        move=_strings(path, raw, "move"),
        agent=_typed(path, raw, "agent", str, ""),
        forbidden=_list(path, raw, "forbidden"),
        console_log=_typed(path, raw, "console_log", bool, True),
        metrics=_list(path, raw, "metrics"),
        node=_typed(path, raw, "node", str, ""),
    )
    for relative in (*plan.files, *plan.seeds, *plan.links, *plan.binds.values(), *plan.strays):
        _below(folder, relative)
    return plan


def _tokens() -> dict[str, str]:
    """What a plan's texts say instead of what the launcher alone knows."""
    here = str(Path(__file__).parent)
    of_root = "# " if os.geteuid() else ""
    return {
        "@UID@": str(os.geteuid()),
        "@GID@": str(os.getegid()),
        "@ROOT@": of_root,
        "@PYTHON@": sys.executable,
        "@LAUNCHER@": here,
    }


def _below(folder: Path, relative: str) -> Path:
    if not relative or relative.startswith("/") or ".." in relative.split("/"):
        raise PlanError(f"plan.json: {relative!r} leaves the launcher's folder")
    return folder / relative


def _seed(source: Path, target: Path) -> None:
    """Copy the files of one tree that the target lacks; each appears whole or not at all."""
    for folder, _, names in os.walk(source):
        here = target / Path(folder).relative_to(source)
        here.mkdir(parents=True, exist_ok=True)
        for name in names:
            copy, part = here / name, here / f".{name}.part"
            if not copy.exists():
                part.write_bytes((Path(folder) / name).read_bytes())
                part.rename(copy)


_REQUIRED: Any = object()


def _typed(path: Path, raw: dict[str, Any], key: str, kind: type | tuple[type, ...], default: Any = _REQUIRED) -> Any:
    value = raw.get(key, default)
    if value is _REQUIRED or not isinstance(value, kind):
        wanted = "a number" if isinstance(kind, tuple) else kind.__name__
        raise PlanError(f"{path}: {key!r} must be {wanted}")
    return value


def _strings(path: Path, raw: dict[str, Any], key: str) -> dict[str, str]:
    value = _typed(path, raw, key, dict, {})
    if not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        raise PlanError(f"{path}: {key!r} must hold texts only")
    return dict(value)


def _list(path: Path, raw: dict[str, Any], key: str) -> list[str]:
    value = _typed(path, raw, key, list, [])
    if not all(isinstance(item, str) for item in value):
        raise PlanError(f"{path}: {key!r} must hold texts only")
    return list(value)
