"""The machines of a real node, whose disks come as volumes of their Pod and not through the agent.

What isn't obvious: in this release a launcher Pod has no volumes for a machine's disks yet. A machine that asks for
any is refused here with that as its reason, rather than have the agent, who is root, write below a folder that the
launcher owns.
"""

from __future__ import annotations

from polyvisor.agent.errors import AgentError
from polyvisor.agent.storage import Prepared
from polyvisor.agent.vmi import MachineAgent
from polyvisor.api import Obj
from polyvisor.domain.kept import kept_state
from polyvisor.drivers.base import Driver, RootKind


class PodMachineAgent(MachineAgent):
    """Reconciles the VMIs whose launchers run in Pods."""

    async def _prepare(self, vmi: Obj, pod: Obj, driver: Driver) -> Prepared:
        spec = vmi["spec"]
        if kept_state(spec):
            raise AgentError(
                "the state of a TPM or of UEFI is kept on virtual nodes only in this release, not in launcher Pods",
                retry=False,
            )
        boot = ((spec.get("domain") or {}).get("firmware") or {}).get("kernelBoot")
        if spec.get("volumes") or boot or driver.root == RootKind.FILESYSTEM:
            what = "volumes" if spec.get("volumes") else "a kernel" if boot else "a root filesystem"
            raise AgentError(
                f"the machine needs {what}, which Polyvisor does not bring into launcher Pods in this release; "
                "machines on virtual nodes have them",
                retry=False,
            )
        return Prepared()

    def _without_effect(self, vmi: Obj) -> list[str]:
        return []

    async def _prepared(self, pod: Obj) -> Prepared | None:
        return None
