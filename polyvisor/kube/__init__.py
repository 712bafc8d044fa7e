"""The Kubernetes side of Polyvisor: client, informers, work queue, controller loop, event recorder.

Objects are plain dictionaries here; only the resource table of :mod:`polyvisor.api` is known.
"""

from polyvisor.kube.backoff import Backoff
from polyvisor.kube.client import KubeClient, WatchEvent
from polyvisor.kube.config import ConfigError, Connection
from polyvisor.kube.controller import Controller
from polyvisor.kube.errors import ApiError
from polyvisor.kube.events import EventRecorder
from polyvisor.kube.informer import Informer, key_of
from polyvisor.kube.queue import ShutDown, WorkQueue

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
