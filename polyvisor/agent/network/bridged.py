"""A virtual node with real networks: a bridge on this host, and for each Pod a network namespace that is joined to it.

This is what a container runtime and a network plug-in do on a kubelet's node; inside the namespace everything is as it
is there. The host gets one bridge, an address on it, and one table of rules that translates what leaves it. Further
networks are bridges of this host that a NetworkAttachmentDefinition names, as the CNI plug-in ``bridge`` has them.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

from polyvisor.agent.errors import AgentError
from polyvisor.agent.files import safepath
from polyvisor.agent.link.connection import Link
from polyvisor.agent.network.dhcp import Resolver
from polyvisor.agent.network.facts import look
from polyvisor.agent.network.namespace import Namespace, NetworkError
from polyvisor.agent.network.plan import stable_mac, wanted
from polyvisor.agent.network.pods import PodNetworks
from polyvisor.api import Obj
from polyvisor.api.names import POD_INTERFACE, pod_interface
from polyvisor.api.reading import nested
from polyvisor.api.resources import NETWORK_ATTACHMENTS
from polyvisor.drivers.base import CardKind, Driver
from polyvisor.kube import ApiError, KubeClient

RUN = Path("/run/netns")
SPACE = IPv4Network("10.88.0.0/16")
PREFIX = 24
BRIDGE = "polyvisor"
NODE = "bridge.json"
POD = "pod.json"
_BRIDGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")


class BridgedNetworks(PodNetworks):
    """Makes the Pods' namespaces too."""

    def __init__(self, folder: Path, resolver: Resolver, client: KubeClient) -> None:
        super().__init__(folder, resolver)
        self._client = client
        self._bridge = ""
        self._network = IPv4Network("0.0.0.0/0")
        self._making = asyncio.Lock()

    async def open(self) -> None:
        """Have the bridge on this host; raises :class:`NetworkError` where that cannot be."""
        await super().open()
        if self.reason:
            raise NetworkError(f"a bridged network cannot be had here: {self.reason}")
        await asyncio.to_thread(self._open_bridge)

    def _open_bridge(self) -> None:
        path = self._folder / NODE
        try:
            known = json.loads(path.read_text())
            self._bridge, self._network = known["bridge"], IPv4Network(known["network"])
        except FileNotFoundError:
            self._bridge, self._network = free(_run(["ip", "-json", "address"]), _run(["ip", "-json", "-4", "route"]))
            safepath.write_atomic(path, json.dumps({"bridge": self._bridge, "network": str(self._network)}).encode())
        lines = []
        if not _exists(self._bridge):
            lines.append(f"link add name {self._bridge} type bridge forward_delay 0 stp_state 0")
            lines.append(f"link set dev {self._bridge} address {stable_mac(str(self._network), self._bridge)}")
        lines.append(f"address replace {self._network[1]}/{PREFIX} dev {self._bridge}")
        lines.append(f"link set dev {self._bridge} up")
        _run(["ip", "-batch", "-"], "\n".join(lines) + "\n")
        _run(["nft", "-f", "-"], _host_rules(self._bridge, self._network))
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")

    async def close(self) -> None:
        """Take the bridge and its rules off this host, if no Pod is left on it."""
        if not self._bridge or list(self._folder.glob(f"*/{POD}")):
            return
        await asyncio.to_thread(_take_down, self._bridge)
        (self._folder / NODE).unlink(missing_ok=True)

    async def make(self, id_: str, driver: Driver, uuid: str) -> None:
        """Make a Pod's namespace and join it to the bridge, unless the launcher was started without one before."""
        if driver.cards is CardKind.NONE:
            return
        async with self._making:
            address = self._address(id_) or self._choose(id_)
        await asyncio.to_thread(self._make, id_, address, uuid)

    def _address(self, id_: str) -> IPv4Interface | None:
        try:
            return IPv4Interface(json.loads((self._folder / id_ / POD).read_text())["address"])
        except FileNotFoundError:
            return None

    def _choose(self, id_: str) -> IPv4Interface:
        used = {self._address(path.parent.name) for path in self._folder.glob(f"*/{POD}")}
        for host in list(self._network.hosts())[1:]:
            address = IPv4Interface(f"{host}/{PREFIX}")
            if address not in used:
                folder = self._folder / id_
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                safepath.write_atomic(folder / POD, json.dumps({"address": str(address)}).encode())
                return address
        raise NetworkError(f"all addresses of {self._network} are in use")

    def _make(self, id_: str, address: IPv4Interface, uuid: str) -> None:
        if not _path(id_).exists():
            _run(["ip", "netns", "add", _path(id_).name])
        with Namespace.open(_path(id_)) as namespace:
            device = look(namespace).devices.get(POD_INTERFACE)
            if device is None:
                _run(
                    [
                        "ip",
                        "link",
                        "add",
                        _outer(id_),
                        "type",
                        "veth",
                        "peer",
                        "name",
                        POD_INTERFACE,
                        "netns",
                        _path(id_).name,
                    ]
                )
            if device is None or not (device.master or device.addresses):
                lines = [
                    "link set dev lo up",
                    f"link set dev {POD_INTERFACE} address {stable_mac(uuid, POD_INTERFACE)}",
                    f"address replace {address} dev {POD_INTERFACE}",
                    f"link set dev {POD_INTERFACE} up",
                    f"route replace default via {self._network[1]} dev {POD_INTERFACE}",
                ]
                namespace.run(["ip", "-batch", "-"], "\n".join(lines) + "\n")
        _run(["ip", "link", "set", "dev", _outer(id_), "master", self._bridge, "up"])

    def prefix(self, id_: str) -> list[str]:
        """Start a launcher inside its Pod's namespace."""
        return ["nsenter", f"--net={_path(id_)}", "--"] if (self._folder / id_ / POD).exists() else []

    def address(self, id_: str) -> str:
        """Return a Pod's address."""
        found = self._address(id_)
        return str(found.ip) if found else ""

    def _has_tun(self, pod: Obj) -> bool:
        return True

    def _has(self, id_: str, link: Link) -> bool:
        return super()._has(id_, link) and (self._folder / id_ / POD).exists()

    def _namespace(self, id_: str, pod: Obj, link: Link) -> Namespace:
        return Namespace.open(_path(id_))

    async def _before(self, id_: str, vmi: Obj, namespace: Namespace) -> None:
        for _, network in wanted(vmi):
            if multus := network.get("multus"):
                bridge, mtu = await self._definition(multus["networkName"], vmi["metadata"]["namespace"])
                await asyncio.to_thread(self._join_bridge, id_, pod_interface(network), bridge, mtu, namespace)

    async def _definition(self, name: str, default: str) -> tuple[str, int]:
        """Return the bridge that a NetworkAttachmentDefinition names, and its MTU."""
        space, _, short = name.rpartition("/")
        try:
            found = await self._client.get(NETWORK_ATTACHMENTS, short, space or default)
        except ApiError as error:
            if not error.not_found:
                raise
            raise AgentError(f"there is no NetworkAttachmentDefinition {space or default}/{short}") from None
        return definition(f"NetworkAttachmentDefinition {space or default}/{short}", found)

    def _join_bridge(self, id_: str, inner: str, bridge: str, mtu: int, namespace: Namespace) -> None:
        if not _exists(bridge):
            _run(["ip", "link", "add", "name", bridge, "type", "bridge", "forward_delay", "0"])
        _run(["ip", "link", "set", "dev", bridge, "up"])
        if inner not in look(namespace).devices:
            # the name on the host follows from the Pod and the network, so a second try finds the first one's
            outer = f"pv{stable_mac(id_, inner).replace(':', '')}"
            _run(
                [
                    "ip",
                    "link",
                    "add",
                    outer,
                    "mtu",
                    str(mtu),
                    "type",
                    "veth",
                    "peer",
                    "name",
                    inner,
                    "mtu",
                    str(mtu),
                    "netns",
                    _path(id_).name,
                ]
            )
            _run(["ip", "link", "set", "dev", outer, "master", bridge, "up"])
            namespace.run(["ip", "link", "set", "dev", inner, "up"])

    async def _take_apart(self, id_: str) -> None:
        """Remove the namespace and with it all that was set up inside."""
        if _path(id_).exists():
            await asyncio.to_thread(_run, ["ip", "netns", "delete", _path(id_).name])


def definition(what: str, found: Obj) -> tuple[str, int]:
    """Return bridge and MTU of a NetworkAttachmentDefinition, or refuse one that asks for more than a bridge."""
    text = nested(found, "spec").get("config") or ""
    try:
        config = json.loads(text)
        if isinstance(config.get("plugins"), list):
            config = config["plugins"][0]
        kind, bridge, mtu = config.get("type"), str(config.get("bridge") or ""), int(config.get("mtu") or 1500)
    except (ValueError, AttributeError, LookupError, TypeError) as error:
        raise AgentError(f"{what}: spec.config is not the JSON of a CNI plug-in: {error}", retry=False) from None
    if kind != "bridge" or not _BRIDGE_NAME.fullmatch(bridge) or config.get("ipam"):
        raise AgentError(
            f"{what}: spec.config must be of type bridge, with the name of a bridge and without ipam on this node, "
            f'such as {{"type": "bridge", "bridge": "br1"}}; found {text[:200]}',
            retry=False,
        )
    return bridge, mtu


def free(addresses: str, routes: str) -> tuple[str, IPv4Network]:
    """Choose a name and a network that this host does not use."""
    devices = [entry for entry in json.loads(addresses or "[]") if entry]
    names = {str(entry["ifname"]) for entry in devices}
    used = [
        IPv4Network(f"{info['local']}/{info['prefixlen']}", strict=False)
        for entry in devices
        for info in entry.get("addr_info") or []
        if info.get("family") == "inet"
    ]
    used += [IPv4Network(entry["dst"]) for entry in json.loads(routes or "[]") if entry["dst"] != "default"]
    name = next(name for number in range(1000) if (name := f"{BRIDGE}{number}") not in names)
    for network in SPACE.subnets(new_prefix=PREFIX):
        if not any(network.overlaps(other) for other in used):
            return name, network
    raise NetworkError(f"this host uses every part of {SPACE} already")


def _host_rules(bridge: str, network: IPv4Network) -> str:
    return f"""table ip {bridge}
delete table ip {bridge}
table ip {bridge} {{
chain outward {{
type nat hook postrouting priority srcnat
ip saddr {network} oifname != "{bridge}" masquerade
}}
}}
"""


def _exists(device: str) -> bool:
    """Whether this process's network has a device; what /sys shows may be another's."""
    try:
        return bool(socket.if_nametoindex(device))
    except OSError:
        return False


def _take_down(bridge: str) -> None:
    if _exists(bridge):
        _run(["ip", "link", "delete", bridge])
    _run(["nft", "-f", "-"], f"table ip {bridge}\ndelete table ip {bridge}\n")


def _path(id_: str) -> Path:
    return RUN / f"pv-{id_}"


def _outer(id_: str) -> str:
    return f"pv{id_}"


def _run(command: list[str], text: str = "") -> str:
    """Run a program on this host."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NetworkError(f"{command[0]} cannot be run: {error}") from None
    if done.returncode:
        raise NetworkError(f"{' '.join(command[:3])}: {done.stderr.strip()[:500]}")
    return done.stdout
