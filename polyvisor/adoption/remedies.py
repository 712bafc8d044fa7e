"""What to do about a disk or a network that nothing of the cluster stands for.

For an XML file that is an option of `polyvisor import`. For a domain of an endpoint it is a mapping of the endpoint,
and the pools of its host are known. Names are a stranger's and the commands are pasted, so they are quoted for a shell.
"""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from polyvisor.adoption.draft import label

if TYPE_CHECKING:
    from polyvisor.adoption.values import Mapping


def of_pool(mapping: Mapping, pool: str) -> str:
    """Return how to map a libvirt pool that a disk names."""
    if mapping.pools is None:
        return f"map it: --storage {shlex.quote(f'STORAGECLASS={pool}')}"
    return f"map it: {_endpoint(mapping)} --storage {shlex.quote(f'{_name(pool)}={pool}')}"


def of_folder(mapping: Mapping, path: str) -> str:
    """Return how to map the pool in whose folder a path is."""
    given = PurePosixPath(path)
    if not given.is_absolute() or ".." in given.parts:
        return "write its whole path, without '..', into the XML"
    if mapping.pools is None:
        return f"map its pool: --storage {shlex.quote(f'STORAGECLASS=POOL:{given.parent}')}"
    inside = [name for name, folder in mapping.pools.items() if folder and given.is_relative_to(folder)]
    if inside:
        pool = max(inside, key=lambda name: len(PurePosixPath((mapping.pools or {})[name]).parts))
        return f"it is in the host's pool {pool!r}; {of_pool(mapping, pool)}"
    if given.is_relative_to("/dev"):
        return (
            "it is a block device in no pool of the host: define one that has it (disk, logical, iscsi), and map that"
        )
    name = _name(given.parent.name)
    define = f"virsh pool-create-as {name} dir --target {shlex.quote(str(given.parent))}"
    return f"it is in no pool of the host: make one there ({define}) and {of_pool(mapping, name)}"


def of_network(mapping: Mapping, network: str) -> str:
    """Return how to map a network of the host."""
    if mapping.pools is None:
        return f"map it: --network {shlex.quote(f'NAME={network}')}, where NAME is pod or a network"
    name = _name(network) if any(one.name == "pod" for one in mapping.networks) else "pod"
    where = f"{mapping.namespace}/{name}" if name != "pod" else name
    return f"map it: {_endpoint(mapping)} --network {shlex.quote(f'{where}={network}')}"


def of_second(mapping: Mapping, network: str) -> str:
    """Return how to map a network that stands for the Pod's and that a machine joins a second time."""
    name = _name(network)
    if mapping.pools is None:
        return f"map this one to another network as well: --network {shlex.quote(f'{name}={network}')}"
    also = shlex.quote(f"{mapping.namespace}/{name}={network}")
    return f"map this one to another network as well: {_endpoint(mapping)} --network {also}"


def _endpoint(mapping: Mapping) -> str:
    return f"polyvisor endpoint map {mapping.endpoint}"


def _name(text: str) -> str:
    return label(text, otherwise="other")
