"""``autoCPULimitNamespaceLabelSelector``: in whose namespaces a launcher may use no more CPUs than its guest has.

For namespaces whose ResourceQuota wants a limit of every container.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvisor.api.reading import nested
from polyvisor.api.resources import NAMESPACES
from polyvisor.api.selectors import matches

if TYPE_CHECKING:
    from polyvisor.api import Obj
    from polyvisor.kube import KubeClient


async def limits_cpus(client: KubeClient, vmi: Obj, config: Obj) -> bool:
    """Whether a machine's namespace is one of those; a machine with a limit of its own keeps it."""
    selector = config.get("autoCPULimitNamespaceLabelSelector")
    limits = nested(vmi["spec"], "domain", "resources").get("limits") or {}
    if selector is None or "cpu" in limits:
        return False
    namespace = await client.get(NAMESPACES, vmi["metadata"]["namespace"])
    return matches(selector, namespace["metadata"].get("labels"))
