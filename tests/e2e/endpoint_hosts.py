"""Hosts without a kubelet for tests of a cluster: a real libvirt, its endpoint and its Secret, and machines for it."""

from __future__ import annotations

import base64
import select
import socket
import socketserver
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.agent.platform.endpoint.hosts import HypervisorHost
from tests.folders import short_folder
from tests.needs import need, need_root

Obj = dict[str, Any]
POOL = "images"
IMAGES = "localhost/polyvisor/"
"""Where an agent with the demo's images in its store finds them."""


@contextmanager
def hypervisor_host(address: str = "127.0.0.1") -> Iterator[HypervisorHost]:
    """Run a host with a storage pool that listens at an address."""
    need_root()
    need("libvirtd", "virsh", "/usr/sbin/sshd", "ssh-keygen")
    with short_folder() as folder:
        found = HypervisorHost(folder, address)
        try:
            found.start()
            found.virsh("pool-define-as", POOL, "dir", "--target", "/var/lib/libvirt/images")
            found.virsh("pool-build", POOL)
            found.virsh("pool-start", POOL)
            yield found
        finally:
            found.stop()


def endpoint(name: str, uri: str, **spec: Any) -> Obj:
    """Return an endpoint that all namespaces may use and whose Secret has its name."""
    return {
        "apiVersion": "hypervisor.kubevirt.io/v1alpha1",
        "kind": "HypervisorEndpoint",
        "metadata": {"name": name},
        "spec": {
            "uri": uri,
            "credentials": {"secretRef": {"name": f"credentials-{name}"}},
            "allowedNamespaces": {"selector": {}},
            "storage": [{"storageClass": name, "pool": POOL, "defaultForImages": True}],
            **spec,
        },
    }


def by_ssh(host: HypervisorHost, scheme: str = "qemu", path: str = "/system") -> str:
    """Return the URI of a host by SSH."""
    return f"{scheme}+ssh://root@{host.address}:{host.ssh_port}{path}"


def keys(host: HypervisorHost) -> dict[str, str]:
    """Return what a host's Secret holds for SSH."""
    return {"ssh-privatekey": host.key(), "known_hosts": host.known_hosts()}


def secret(name: str, values: dict[str, str], label: str = "") -> Obj:
    """Return the Secret of an endpoint; ``label`` is the endpoint that it says it is for."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    labels = {"hypervisor.kubevirt.io/endpoint": label or name}
    metadata = {"name": f"credentials-{name}", "namespace": "kubevirt", "labels": labels}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


def machine(name: str, where: str, images: str = IMAGES, further: Sequence[Obj] = (), **spec: Any) -> Obj:
    """Return a VirtualMachine of the demo's guest on an endpoint; ``further`` are volumes beside its disk."""
    kernel = {
        "image": f"{images}demo-kernel:1",
        "kernelPath": "/boot/vmlinuz",
        "initrdPath": "/boot/initrd.img",
    }
    disk = {"name": "data", "containerDisk": {"image": f"{images}demo-disk:1"}}
    template = {
        "hypervisor": {"endpoint": where, "virtType": "qemu"},
        "terminationGracePeriodSeconds": 10,
        "domain": {
            "memory": {"guest": "96Mi"},
            "resources": {"requests": {"cpu": "10m"}},
            "devices": {"autoattachPodInterface": False},
            "firmware": {"kernelBoot": {"kernelArgs": "console=ttyS0 quiet", "container": kernel}},
        },
        "volumes": [disk, *further],
        **spec,
    }
    body = {"runStrategy": "RerunOnFailure", "template": {"metadata": {}, "spec": template}}
    return {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name}, "spec": body}


@contextmanager
def forwarded(address: str, to: str) -> Iterator[str]:
    """Listen on a free port of an address and pass every connection on; give where."""
    host, _, port = to.rpartition(":")

    class Passing(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((host, int(port))) as there:
                ends = {self.request: there, there: self.request}
                while True:
                    for ready in select.select(list(ends), [], [])[0]:
                        data = ready.recv(65536)
                        if not data:
                            return
                        ends[ready].sendall(data)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server((address, 0), Passing) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"{address}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
