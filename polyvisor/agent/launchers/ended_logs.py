"""The logs of machines that are over: what a guest and its launcher said last, kept when the launcher's folder goes.

They lie in a folder for each domain, by its UUID, which a virtual machine keeps for all its instances. Each end
replaces what was kept of the one before, and only the newest are kept.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from polyvisor.agent.files import safepath
from polyvisor.agent.files.logs import CONSOLE, LAUNCHER

MOST = 100
"""How many machines' logs are kept."""


class EndedLogs:
    """The folder of them. Blocking calls, but short: files are renamed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, uuid: str) -> Path:
        """Return where the logs of a domain are, if any were kept; ValueError for what is no UUID."""
        return self._root / str(UUID(uuid))

    def keep(self, launcher: Path, uuid: str) -> None:
        """Move the logs out of a launcher's folder, which is about to go."""
        folder = self.folder(uuid)
        there = [
            f"{name}{end}"
            for name in (CONSOLE, LAUNCHER)
            for end in ("", ".1")
            if (launcher / f"{name}{end}").is_file()
        ]
        safepath.remove_path(folder)
        if not there:
            return
        folder.mkdir(mode=0o700, parents=True)
        for name in there:
            (launcher / name).rename(folder / name)
        self._sweep()

    def _sweep(self) -> None:
        def age(folder: Path) -> float:
            with suppress(FileNotFoundError):
                return -folder.stat().st_mtime
            return 0.0

        for folder in sorted((Path(entry) for entry in os.scandir(self._root)), key=age)[MOST:]:
            safepath.remove_path(folder)
