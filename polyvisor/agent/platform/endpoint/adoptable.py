"""What keeps a domain from being adopted beside its XML: its owner, its state, and what the endpoint allows. Pure."""

from __future__ import annotations

from polyvisor.agent.platform.endpoint.inventory import Domain
from polyvisor.api import Obj

PASSING = ("shutdown", "unknown")
"""States that a domain does not stay in."""


def obstacles(
    domain: Domain, endpoint: Obj, cluster: str, machine: str, itself: str = "", *, marks: bool = True
) -> list[str]:
    """Return why a domain cannot be adopted, each with what to do; empty if nothing but its XML can prevent it.

    ``machine`` is whose the domain is by its mark, empty if that machine is gone; ``itself`` is the UUID of the domain
    that is the host itself, where the hypervisor lists one; ``marks``: whether libvirt can mark a domain of this
    hypervisor that is there already.
    """
    if domain.uuid == itself:
        return ["it is the host itself, which its hypervisor lists as a domain"]
    name = endpoint["metadata"]["name"]
    found = []
    if domain.owner and domain.owner != cluster:
        found.append(
            f"it is managed by another installation of Polyvisor ({domain.owner}); let go of it there first: "
            "polyvisor unmanage MACHINE"
        )
    elif machine:
        found.append(f"it is managed already, as VirtualMachine {machine}")
    if not marks:
        found.append(
            "libvirt cannot mark a domain of this hypervisor without defining it anew; shut it off and write a machine "
            "with claims of its disks"
        )
    if endpoint["spec"].get("management") == "Observe":
        found.append(
            "the endpoint is only observed (spec.management); allow changes on its host: kubectl patch "
            f'hypervisorendpoint {name} --type merge -p \'{{"spec":{{"management":"Full"}}}}\''
        )
    if domain.state in PASSING:
        state = "shutting down" if domain.state == "shutdown" else "in no state that libvirt knows"
        found.append(f"it is {state}; try again when that is over")
    return found
