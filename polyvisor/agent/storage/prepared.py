"""What was made ready for a machine to boot from: the record of it, and where it stands.

The disks are in ``disks`` of the machine's folder, and the record is with them; where something else than the agent may
write to that folder, the record stays in the agent's ``workshop``. Either way it is read as what anybody may have put
there: a link is not followed, a pipe not waited for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from pathlib import Path

from polyvisor.agent.errors import AgentError, translated
from polyvisor.agent.files import safepath
from polyvisor.agent.storage.disks import DiskFile
from polyvisor.domain import Share

DISKS = "disks"
SCRATCH = "disks.tmp"
RESULT = "prepared.json"
MAX_RESULT = 1024 * 1024
SELINUX = "security.selinux"


@dataclass(frozen=True)
class Prepared:
    """What there is to boot from: disk images, folders and shares by volume name, a root filesystem, a kernel."""

    files: Mapping[str, DiskFile] = field(default_factory=dict)
    folders: Mapping[str, Path] = field(default_factory=dict)
    shares: Mapping[str, Share] = field(default_factory=dict)
    root: Path | None = None
    root_volume: str = ""
    kernel: Path | None = None
    initrd: Path | None = None
    trees: tuple[str, ...] = ()
    """The trees of the image cache whose files are used in place."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Sizes of the disks, as the guest sees them, where they are known."""
    first_id: int = 0
    """The first of the node's ids that are the guest's, with drivers whose guests have any."""
    shifted: bool = False
    """Whether the files of the root have these ids on disk."""

    def to_json(self) -> str:
        """Return the text that :meth:`from_json` reads."""
        return json.dumps(
            {
                "files": {name: [str(file.path), *astuple(file)[1:]] for name, file in self.files.items()},
                "folders": {name: str(path) for name, path in self.folders.items()},
                "shares": {name: [str(share.path), share.socket] for name, share in self.shares.items()},
                "root": str(self.root or ""),
                "rootVolume": self.root_volume,
                "kernel": str(self.kernel or ""),
                "initrd": str(self.initrd or ""),
                "trees": list(self.trees),
                "sizes": dict(self.sizes),
                "firstId": self.first_id,
                "shifted": self.shifted,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Prepared:
        """Read what :meth:`to_json` wrote."""
        raw = json.loads(text)
        return cls(
            files={name: DiskFile(Path(path), *more) for name, (path, *more) in raw["files"].items()},
            folders={name: Path(path) for name, path in raw["folders"].items()},
            shares={name: Share(Path(path), socket) for name, (path, socket) in (raw.get("shares") or {}).items()},
            root=_path(raw["root"]),
            root_volume=raw["rootVolume"],
            kernel=_path(raw["kernel"]),
            initrd=_path(raw["initrd"]),
            trees=tuple(raw.get("trees") or ()),
            sizes=raw.get("sizes") or {},
            first_id=raw.get("firstId") or 0,
            shifted=bool(raw.get("shifted")),
        )


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def move(workshop: Path, folder: Path) -> None:
    """Move what was made into the machine's folder, in place of what was moved there and never recorded."""
    with safepath.opened_root(workshop) as here, safepath.opened_root(folder) as there:
        with suppress(OSError):  # a file system or a kernel without labels
            label = os.getxattr(there, SELINUX)
            with safepath.walk(here, [SCRATCH]) as made:
                for _, _, files, at in os.fwalk(".", dir_fd=made):
                    os.setxattr(at, SELINUX, label)
                    for name in files:
                        os.setxattr(f"/proc/self/fd/{at}/{name}", SELINUX, label, follow_symlinks=False)
        safepath.remove(there, DISKS)
        os.rename(SCRATCH, DISKS, src_dir_fd=here, dst_dir_fd=there)


def prepared(folder: Path, workshop: Path | None = None) -> Prepared | None:
    """Return what was made ready for a machine, if it was."""
    place = workshop or folder / DISKS
    try:
        with translated(folder, "reading what was made ready"):
            return Prepared.from_json(safepath.read_file(place, RESULT, MAX_RESULT).decode())
    except AgentError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise AgentError(f"{RESULT} of a machine in {folder} is damaged: {error}") from None


def used_trees(machines: Path, workshops: Path) -> set[str]:
    """Return the trees of the image cache that the machines use that have a folder in one or the other."""
    records = [prepared(folder) for folder in machines.iterdir()] if machines.is_dir() else []
    records += [prepared(folder, folder) for folder in workshops.iterdir()] if workshops.is_dir() else []
    return {tree for found in records if found for tree in found.trees}
