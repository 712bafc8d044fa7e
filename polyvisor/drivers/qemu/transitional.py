"""virtio devices that guests older than virtio 1.0 know as well (``useVirtioTransitional``).

On a PCI Express port QEMU's virtio devices speak virtio 1.0 alone. Transitional ones are conventional PCI devices.
Tablets, vsock, screens and shared folders are devices of virtio 1.0, so no older guest could know them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxml.etree import _Element

MODEL = "virtio-transitional"


def make_transitional(devices: _Element) -> None:
    """Give every virtio device that there is in this form its model, in place."""
    for disk in devices.iterfind("disk"):
        target = disk.find("target")
        if target is not None and target.get("bus") == "virtio":
            disk.set("model", MODEL)
    for model in devices.iterfind("interface/model[@type='virtio']"):
        model.set("type", MODEL)
    for kind in ("memballoon[@model='virtio']", "rng[@model='virtio']", "controller[@model='virtio-scsi']"):
        for device in devices.iterfind(kind):
            device.set("model", MODEL)
    for controller in devices.iterfind("controller[@type='virtio-serial']"):
        controller.set("model", MODEL)


def is_transitional(device: _Element) -> bool:
    """Whether a device, or an interface by its model, is one of these."""
    model = device.find("model")
    return MODEL in (device.get("model"), model.get("type") if model is not None else None)
