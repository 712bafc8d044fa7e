"""``endpoint fence``: the administrator's word that a guest on a host which is away does not run.

Nobody else can know: a host that cannot be reached may well go on running its guests. So it is asked for one machine at
a time, and refused where the endpoint's agent can see for itself.
"""

from __future__ import annotations

from polyvisor.api.endpoint_names import FENCED_ANNOTATION
from polyvisor.api.reading import read_status
from polyvisor.api.resources import ENDPOINTS, VMIS
from polyvisor.cli.client import MERGE
from polyvisor.cli.context import Session
from polyvisor.cli.endpoints import condition
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.output import say


def fence(session: Session, name: str, machine: str) -> None:
    """End a machine on an endpoint that cannot be reached; say what may be left on its host."""
    endpoint = session.client.get(ENDPOINTS.path(name=name))
    namespace, slash, short = machine.rpartition("/")
    path = VMIS.path(namespace if slash else session.namespace, short)
    vmi = session.client.get(path)
    hypervisor = read_status(vmi).get("hypervisor") or {}
    if hypervisor.get("endpoint") != name:
        raise CliError(f"machine {machine} has no domain on endpoint {name}", ExitCode.CONFLICT)
    if condition(endpoint, "Ready").get("status") == "True":
        raise CliError(
            f"endpoint {name} is connected, so its agent knows how the guest is",
            ExitCode.CONFLICT,
            f"Stop or delete the machine: `polyvisor stop {short}`, `polyvisor delete vmi {short}`.",
        )
    said = {"metadata": {"annotations": {FENCED_ANNOTATION: "true"}}}
    session.client.request("PATCH", path, said, content_type=MERGE)
    domain = hypervisor.get("domain") or {}
    say(f"machine {machine} is taken for ended; nothing was done on the host of endpoint {name}")
    if domain:
        say(f"domain {domain.get('name')} ({domain.get('uuid')}) and its disks may be left there: remove them")
