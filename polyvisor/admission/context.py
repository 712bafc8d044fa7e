"""What decisions depend on beside the object itself, and what the outcome of one is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from polyvisor.api import Obj, Problem, to_obj
from polyvisor.api.base import Model
from polyvisor.api.resources import Resource
from polyvisor.drivers import DriverRegistry

if TYPE_CHECKING:
    from polyvisor.api import KubeVirtConfiguration

Lookup = Callable[[Resource, str, str], Obj | None]
"""Returns the object of a kind by namespace (empty for kinds without one) and name, or None if there is none."""


def nothing(resource: Resource, namespace: str, name: str) -> Obj | None:
    """Find nothing: where an object stands alone."""
    return None


class Access(NamedTuple):
    """Something that a user may or may not do, as Kubernetes' authorization has it."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""


@dataclass(frozen=True)
class Requester:
    """Who wants the object written. ``ours``: one of Polyvisor's own components; ``may`` says what else it may do."""

    name: str = ""
    ours: bool = True
    may: Callable[[Access], bool] = lambda _: True


@dataclass(frozen=True)
class AdmissionContext:
    """The cluster's configuration, the drivers that exist, a way to other objects that one refers to, and who asks."""

    config: KubeVirtConfiguration | Mapping[str, Any]
    drivers: DriverRegistry
    lookup: Lookup = nothing
    requester: Requester = Requester()
    cluster: bool = False
    """Whether users are to be kept from each other, as in a cluster; a standalone installation has one."""

    @property
    def configuration(self) -> Obj:
        """The configuration as plain JSON."""
        return to_obj(self.config) if isinstance(self.config, Model) else dict(self.config)


@dataclass(frozen=True)
class Admitted:
    """The outcome: the object to store, what is wrong with it (then nothing is stored), and what to warn of."""

    obj: Obj
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
