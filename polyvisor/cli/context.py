"""Which cluster and namespace a command works on.

The order: ``--kubeconfig``, ``$KUBECONFIG``, then the kubeconfig of the standalone installation. A missing standalone
kubeconfig means that it was never started, and that is what the user is told.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.standalone.state import StateFolder

if TYPE_CHECKING:
    from polyvisor.cli.client import Client
    from polyvisor.cli.discovery import Discovery


@dataclass(slots=True)
class Context:
    """What the global options said."""

    kubeconfig: str = ""
    context: str = ""
    state: StateFolder = field(default_factory=StateFolder.default)

    def kubeconfig_path(self) -> Path:
        """Return the kubeconfig that applies."""
        if self.kubeconfig:
            return Path(self.kubeconfig).expanduser()
        for part in os.environ.get("KUBECONFIG", "").split(os.pathsep):
            if part and Path(part).expanduser().exists():
                return Path(part).expanduser()
        return self.state.kubeconfig

    @property
    def local(self) -> bool:
        """Whether it is the standalone installation on this machine."""
        return self.kubeconfig_path().resolve() == self.state.kubeconfig.resolve()

    def connect(self) -> Session:
        """Return a session with the cluster."""
        from polyvisor.cli.client import Client
        from polyvisor.cli.discovery import Discovery
        from polyvisor.cli.output import note
        from polyvisor.kube.config import ConfigError, from_kubeconfig

        path = self.kubeconfig_path()
        try:
            found = path.exists()
        except PermissionError:
            found = True
        if path == self.state.kubeconfig and not found:
            raise CliError(
                f"Polyvisor has not been started here ({path} does not exist)",
                ExitCode.NOT_RUNNING,
                "Start it with `polyvisor up`, or name a cluster with --kubeconfig.",
            )
        try:
            listed = not self.kubeconfig and path != self.state.kubeconfig  # all of $KUBECONFIG, of which it is one
            connection = from_kubeconfig(None if listed else path, self.context or None)
        except ConfigError as error:
            permission = "Permission denied" in str(error)
            raise CliError(
                str(error),
                ExitCode.NOT_PERMITTED if permission else ExitCode.ERROR,
                "It belongs to another user: run as that user, or with sudo." if permission else "",
            ) from error
        client = Client(connection, warn=lambda words: note(f"Warning: {words}"))
        return Session(client, Discovery(client), connection.namespace)


@dataclass(slots=True)
class Session:
    """A client, what the server has, and the kubeconfig's namespace."""

    client: Client
    discovery: Discovery
    namespace: str
