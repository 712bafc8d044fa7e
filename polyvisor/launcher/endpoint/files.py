"""The files that a connection needs: keys, certificates, the ssh client's settings. They last until it is open.

The folder is made anew, with mode 0700, so that nothing in it is anybody else's; the files have mode 0600, the one that
is a program 0700.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
PROGRAM = "ssh"
"""The one file that is run: libvirt is told to call it in the place of the ssh client."""


class PrivateFiles:
    """The folder and what is in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, files: Any) -> None:
        """Replace all files: name -> text. Raises ValueError for what is not that."""
        if not isinstance(files, Mapping):
            raise ValueError("files: an object of names and texts is expected")
        self.remove()
        self._folder.mkdir(mode=0o700)
        for name, text in files.items():
            if not isinstance(text, str) or not _NAME.fullmatch(name):
                raise ValueError(f"files: {name!r} is not the name of a text")
            mode = 0o700 if name == PROGRAM else 0o600
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            with os.fdopen(os.open(self._folder / name, flags, mode), "w") as file:
                file.write(text)

    def remove(self) -> None:
        """Remove folder and files."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self._folder)
