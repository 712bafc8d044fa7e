"""Where an agent works, and what of its node it can use."""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Where an agent works, and under which name."""

    node_name: str
    state: Path
    hostdisks: Path | None = None
    host_disk_limit: int | None = None
    pods: Path | None = None
    """Where the kubelet keeps its Pods' volumes; None on a virtual node, which has no kubelet."""
    device_plugins: Path | None = None
    """Where the kubelet and device plugins have their sockets, on a node with a kubelet."""
    imports: bool = False
    """Whether this agent does CDI's part and fills DataVolumes; where there is one node and no CDI."""
    bridged: bool = False
    """Whether a virtual node has a bridge, to which its Pods are joined; else hypervisors' user-mode networks serve."""
    own_pod: tuple[str, str] | None = None
    """Namespace and name of the agent's Pod, in which its launcher images are; None where it runs in none."""

    def resolved(self) -> Settings:
        """Return the settings with folders that no link leads to: below them none is followed."""
        known = {name: path for name in ("state", "hostdisks", "pods") if (path := getattr(self, name)) is not None}
        return replace(self, **{name: path.resolve() for name, path in known.items()})

    @classmethod
    def of(cls, state: Path, node_name: str = "", *, imports: bool = False, bridged: bool = False) -> Settings:
        """Return the settings of this machine."""
        return cls(node_name or socket.gethostname().lower(), state, imports=imports, bridged=bridged)
