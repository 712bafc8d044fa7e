"""Figures for Prometheus: made from the list in :mod:`polyvisor.api.figures`, and those of queues and clients.

What is counted as it happens is one of the process's own objects here (``prometheus_client`` keeps them in a registry
of the process); what can be read when somebody asks is a family of samples. Neither needs a second mention of a name's
labels or help. Queues and clients tell what they do through the narrow methods that they call themselves, so that they
know nothing of Prometheus.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from polyvisor import __version__
from polyvisor.api.figures import BY_NAME
from polyvisor.kube.queue import WorkQueue

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
disable_created_metrics()  # type: ignore[no-untyped-call]
Family = GaugeMetricFamily | CounterMetricFamily


def counter(name: str, registry: CollectorRegistry | None = REGISTRY) -> Counter:
    """Return a counter of the list, ready to count."""
    figure = BY_NAME[name]
    return Counter(name, figure.help, figure.labels, registry=registry)


def gauge(name: str, registry: CollectorRegistry | None = REGISTRY) -> Gauge:
    """Return a gauge of the list that is set as things happen."""
    figure = BY_NAME[name]
    return Gauge(name, figure.help, figure.labels, registry=registry)


def histogram(
    name: str, registry: CollectorRegistry | None = REGISTRY, buckets: tuple[float, ...] = SECONDS
) -> Histogram:
    """Return a histogram of the list."""
    figure = BY_NAME[name]
    return Histogram(name, figure.help, figure.labels, buckets=buckets, registry=registry)


class Families:
    """Samples of several figures, collected at once: each sample names its figure, and labels it has no value for."""

    def __init__(self) -> None:
        self._found: dict[str, Family] = {}

    def add(self, name: str, value: float, more: Mapping[str, str] | None = None, /, **labels: Any) -> None:
        """Add a sample; a label that is not given is empty, as Prometheus takes one that is absent.

        ``more`` are labels that this sample alone has.
        """
        figure = BY_NAME[name]
        if name not in self._found:
            kind = CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily
            self._found[name] = kind(name, figure.help, labels=figure.labels)
        unknown = labels.keys() - set(figure.labels)
        assert not unknown, f"{name} has no labels {unknown}"
        given = [labels.get(label) for label in figure.labels]
        self._found[name].add_metric(["" if one is None else str(one) for one in given], value)
        if more:
            sample = self._found[name].samples[-1]
            self._found[name].samples[-1] = sample._replace(labels={**more, **sample.labels})

    def __iter__(self) -> Iterator[Family]:
        return iter(self._found.values())


INFO = gauge("kubevirt_info")
INFO.labels(__version__, f"v{__version__}").set(1)
REQUESTS = counter("kubevirt_rest_client_requests_total")
LATENCY = histogram("kubevirt_rest_client_request_latency_seconds")
ADDS = counter("kubevirt_workqueue_adds_total")
RETRIES = counter("kubevirt_workqueue_retries_total")
WAITED = histogram("kubevirt_workqueue_queue_duration_seconds")
WORKED = histogram("kubevirt_workqueue_work_duration_seconds")


def count_request(verb: str, path: str, code: int, seconds: float) -> None:
    """Count a call to the API server; what a client is given to call. ``code`` is 0 where no answer came."""
    resource = resource_of(path)
    REQUESTS.labels(verb, resource, str(code) if code else "<error>").inc()
    if verb != "WATCH":
        LATENCY.labels(verb, resource).observe(seconds)


def resource_of(path: str) -> str:
    """Return the kind of thing that a URL path leads to, such as ``pods/status``; never a name of one."""
    parts = path.strip("/").split("/")
    parts = parts[3:] if parts[0] == "apis" else parts[2:]
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        parts = parts[2:]
    return "/".join([*parts[:1], *parts[2:3]])


class Watched:
    """What one queue tells of itself."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.added: Callable[[], None] = ADDS.labels(name).inc
        self.retried: Callable[[], None] = RETRIES.labels(name).inc
        self.waited: Callable[[float], None] = WAITED.labels(name).observe
        self.worked: Callable[[float], None] = WORKED.labels(name).observe


class _Queues(Collector):
    """The present state of the queues that are in use."""

    def __init__(self) -> None:
        self.queues: WeakKeyDictionary[WorkQueue[Any], str] = WeakKeyDictionary()

    def collect(self) -> Iterator[Family]:
        found: dict[str, tuple[int, list[float]]] = {}
        for queue, name in list(self.queues.items()):
            depth, ages = found.get(name, (0, []))
            found[name] = depth + len(queue), ages + queue.ages(time.monotonic())
        families = Families()
        for name, (depth, ages) in found.items():
            families.add("kubevirt_workqueue_depth", depth, name=name)
            families.add("kubevirt_workqueue_unfinished_work_seconds", sum(ages), name=name)
            families.add("kubevirt_workqueue_longest_running_processor_seconds", max(ages, default=0.0), name=name)
        yield from families


QUEUES = _Queues()
REGISTRY.register(QUEUES)


def watch_queue(name: str, queue: WorkQueue[Any]) -> None:
    """Show how a queue does, for as long as it lives."""
    QUEUES.queues[queue] = name
    queue.watched = Watched(name)
