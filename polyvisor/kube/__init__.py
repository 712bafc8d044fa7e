"""The Kubernetes side of Polyvisor: client, informers, work queue, controller loop, event recorder.

Objects are plain dictionaries here; only the resource table of :mod:`polyvisor.api` is known. Names are loaded when
first asked for: the command line shares the configuration and the errors, and must not wait for the rest.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyvisor.kube.backoff import Backoff
    from polyvisor.kube.client import KubeClient, WatchEvent
    from polyvisor.kube.config import ConfigError, Connection
    from polyvisor.kube.controller import Controller
    from polyvisor.kube.errors import ApiError
    from polyvisor.kube.events import EventRecorder
    from polyvisor.kube.informer import Informer, key_of
    from polyvisor.kube.queue import ShutDown, WorkQueue

sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
"""httpx's command line, which it does without: it would bring rich and click, 5 MiB, into each process."""
for _kind in ("_async", "_sync"):
    sys.modules.setdefault(f"httpcore.{_kind}.http2", None)  # type: ignore[arg-type]
"""HTTP/2, which no client here speaks, and which takes 1.5 MiB wherever its library is installed."""

__all__ = [
    "ApiError",
    "Backoff",
    "ConfigError",
    "Connection",
    "Controller",
    "EventRecorder",
    "Informer",
    "KubeClient",
    "ShutDown",
    "WatchEvent",
    "WorkQueue",
    "key_of",
]

_HOMES = {
    "ApiError": "errors",
    "Backoff": "backoff",
    "ConfigError": "config",
    "Connection": "config",
    "Controller": "controller",
    "EventRecorder": "events",
    "Informer": "informer",
    "KubeClient": "client",
    "ShutDown": "queue",
    "WatchEvent": "client",
    "WorkQueue": "queue",
    "key_of": "informer",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
