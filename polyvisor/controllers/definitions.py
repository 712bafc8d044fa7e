"""Whether the cluster's definitions of our kinds are Polyvisor's, and what else is wrong with the installation.

With KubeVirt's own definitions the API server would drop ``spec.hypervisor`` without a word, and without any definition
the controllers wait for ever. Neither is mended here; it is said, in the log and in the KubeVirt object's conditions,
and whatever can work goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from polyvisor.admission.configuration import validate
from polyvisor.admission.values import Findings
from polyvisor.api import Obj, names
from polyvisor.api.reading import labels_of
from polyvisor.api.resources import CRDS, RESOURCES, Resource
from polyvisor.drivers import DriverRegistry
from polyvisor.kube import ApiError, KubeClient

CHECK_SECONDS = 20.0
log = logging.getLogger("polyvisor.definitions")


class Definitions:
    """Looks at the definitions from time to time; ``changed`` is called when something else is wrong than before."""

    def __init__(self, client: KubeClient, seconds: float = CHECK_SECONDS) -> None:
        self._client = client
        self._seconds = seconds
        self.problems: list[str] = []
        self.changed: Callable[[], None] = lambda: None

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            found = await self.look(one for one in RESOURCES if one.custom and not one.refused)
            if found != self.problems:
                for problem in found:
                    log.error("%s", problem)
                self.problems = found
                self.changed()
            await asyncio.sleep(self._seconds)

    async def look(self, resources: Iterable[Resource]) -> list[str]:
        """Return what is wrong with the definitions of kinds."""
        said = [await self._judge(one) for one in resources]
        return [problem for problem in said if problem]

    async def _judge(self, resource: Resource) -> str:
        name = resource.full_name
        try:
            found = await self._client.get(CRDS, name)
        except ApiError as error:
            if error.not_found:
                return f"CustomResourceDefinition {name} is missing: apply the installation again"
            return f"CustomResourceDefinition {name} cannot be looked at: {error}"
        if labels_of(found).get(names.PART_OF_LABEL) != names.MANAGER:
            return (
                f"CustomResourceDefinition {name} is not Polyvisor's but of another project, probably KubeVirt: fields "
                "that it does not know, such as spec.hypervisor, get lost. Only one of the two can be installed"
            )
        served = [one["name"] for one in found["spec"].get("versions") or [] if one.get("served")]
        if resource.version not in served:
            return (
                f"CustomResourceDefinition {name} is of another release: it serves {', '.join(served) or 'nothing'}, "
                f"not {resource.version}; apply the installation of this release"
            )
        return ""


def configuration_problems(kubevirt: Obj, drivers: DriverRegistry) -> list[str]:
    """Return what is wrong with a configuration that was stored while no webhook could refuse it."""
    found = Findings()
    validate(kubevirt, drivers, found)
    return [str(problem) for problem in found.problems]
