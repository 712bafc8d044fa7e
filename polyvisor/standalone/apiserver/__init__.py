"""An embedded Kubernetes-style API server: what a Polyvisor on one machine has in the place of a cluster's.

Requests come in through :mod:`.app`, verbs are in :mod:`.registry` and :mod:`.deletion`, objects in :mod:`.store`.
"""

from .app import create_app
from .errors import StatusError, StorageError
from .registry import Admit, Options, Registry, admit_all
from .store import Store

__all__ = [
    "Admit",
    "Options",
    "Registry",
    "StatusError",
    "StorageError",
    "Store",
    "admit_all",
    "create_app",
]
