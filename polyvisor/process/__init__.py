"""What every process of Polyvisor's own needs to live in a cluster: a log, a TLS server, certificates, health, an end.

Nothing here knows what the process is for.
"""

from __future__ import annotations

import sys
from types import ModuleType


class _NoCommandLine(ModuleType):
    """Stands in for uvicorn's command line, which would bring click and multiprocessing, 1 MiB, into each process."""

    Server = main = run = None


sys.modules.setdefault("uvicorn.main", _NoCommandLine("uvicorn.main"))
