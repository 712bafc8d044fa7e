"""A driver as it is on an endpoint, a host without a kubelet: its table, less what Polyvisor does not do there yet.

What a hypervisor can do is the same everywhere, but some features need files, devices or programs beside the
hypervisor, which on such a host nobody makes. The list is the same for all drivers. The other way round, an endpoint
maps networks by name, so that no node has to show that it has them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from polyvisor.api import Obj
from polyvisor.api.reading import nested
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.answers import Table, below, no, yes
from polyvisor.drivers.base import Driver, RootKind, Verdict
from polyvisor.drivers.features import BY_ID

if TYPE_CHECKING:
    from polyvisor.drivers.base import Support

SOURCE = "docs/endpoints.md"
LATER = "on an endpoint in this release"
LACKS: Table = {
    **no(SOURCE, f"a machine that runs is not changed {LATER}", *below("lifecycle.hotplug")),
    **no(
        SOURCE,
        f"nothing is saved or dumped {LATER}",
        *("lifecycle.save", "lifecycle.memory-dump", "lifecycle.snapshot", "lifecycle.live-migration"),
    ),
    **no(
        SOURCE,
        f"state of the firmware and the TPM is not kept {LATER}",
        *("firmware.efi.persistent", "tpm", "tpm.persistent"),
    ),
    **no(
        SOURCE,
        f"only container disks, empty disks, and volumes made of texts are there {LATER}",
        *("volume.host-disk", "volume.ephemeral", "filesystem.virtiofs"),
    ),
    **no(SOURCE, "a kubelet hands out the token, and an endpoint has none", "volume.service-account"),
    **no(
        SOURCE,
        f"networks are those of the host, and nothing is set up for one machine {LATER}",
        *("network.pod.cidr", "interface.passt", "interface.sriov", "interface.dhcp-options", "interface.ports"),
        *("interface.multiqueue", "interface.mtu", "interface.absent"),
    ),
    **no(
        SOURCE,
        f"CPUs and memory of the host are not set aside {LATER}",
        *("cpu.pinning", "cpu.emulator-pinning", "cpu.numa", "cpu.realtime", "memory.hugepages"),
    ),
    **no(
        SOURCE,
        f"devices of the host and of clients are not passed on {LATER}",
        *below("passthrough", "downward-metrics"),
        *("vsock", "usb-redirection", "disk.lun", "disk.lun.reservation"),
    ),
}
"""Feature -> why it is not there on endpoints, whatever the driver."""
WITHOUT_AGENT: Table = no(SOURCE, f"there is no guest agent channel {LATER}", "lifecycle.guest-agent")
"""Where libvirt puts no command to an agent inside the driver's guests."""
WITHOUT_SCREEN: Table = no(
    SOURCE,
    f"there is no way to the screen {LATER}",
    *("lifecycle.vnc", "lifecycle.screenshot", "graphics", "video.type", "video.qxl"),
)
"""Where libvirt gives the driver's screens on no socket of the host."""
OF_TREES: Table = no(
    SOURCE,
    f"trees of files are not brought to the host {LATER}",
    *(id_ for id_ in BY_ID if id_.startswith("volume.")),
)
MAPPED: Table = yes(
    f"{SOURCE} (spec.networks)", "network.pod", "network.multus", "interface.masquerade", "interface.bridge"
)
"""What an endpoint's mapping of networks stands for, where the driver has it at all."""
HAS = (Verdict.SUPPORTED, Verdict.CONDITIONAL)


NO_AGENT = f"a guest's agent is asked by users alone, not by probes and for credentials, {LATER}"


def by_agent(spec: Obj) -> list[str]:
    """Return the fields of an instance's spec that put its guest's agent to work; on endpoints it is not."""
    found = []
    for kind in ("livenessProbe", "readinessProbe"):
        given = nested(spec, kind)
        found += [f"{kind}.{way}" for way in ("exec", "guestAgentPing") if given.get(way) is not None]
    for number, one in enumerate(spec.get("accessCredentials") or []):
        for kind in ("sshPublicKey", "userPassword"):
            if nested(one, kind, "propagationMethod").get("qemuGuestAgent") is not None:
                found.append(f"accessCredentials[{number}].{kind}.propagationMethod.qemuGuestAgent")
    return found


class _AtEndpoint(Driver):
    """Mixed into a driver's own class; ``table`` is what is left of its table."""

    table: Mapping[str, Support]

    @property
    def features(self) -> Mapping[str, Support]:
        """The driver's table, less what is not there on endpoints."""
        return self.table


def at_endpoint(driver: Driver) -> Driver:
    """Return the driver as it is on endpoints."""
    if isinstance(driver, _AtEndpoint):
        return driver
    found = object.__new__(_class(type(driver)))
    found.__dict__.update({**driver.__dict__, "table": _limited(driver)})
    return found


def all_at_endpoints(drivers: DriverRegistry) -> DriverRegistry:
    """Return all drivers as they are on endpoints."""
    return DriverRegistry(at_endpoint(driver) for driver in drivers)


@cache
def _class(kind: type[Driver]) -> type[Driver]:
    return type(f"{kind.__name__}AtEndpoint", (_AtEndpoint, kind), {})


def _limited(driver: Driver) -> Mapping[str, Support]:
    """Return a driver's table with what endpoints map, and without what they lack."""
    own = driver.features
    lacks = {
        **LACKS,
        **(OF_TREES if driver.root is RootKind.FILESYSTEM else {}),
        **(WITHOUT_AGENT if not driver.launcher(Path(os.devnull)).agent else {}),
        **(WITHOUT_SCREEN if not driver.host_screen else {}),
    }
    return {**own, **{id_: one for id_, one in (MAPPED | lacks).items() if id_ in own and own[id_].verdict in HAS}}
