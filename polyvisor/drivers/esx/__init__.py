"""VMware ESX: machines of an ESX host, or of a vCenter, which libvirt asks over HTTPS.

Nothing of the hypervisor is on this machine. Images are files in datastores, which an ESX host mounts below
``/vmfs/volumes``; libvirt names them ``[datastore] folder/disk.vmdk``. There are no events, so the launcher looks.
Metadata is not written into a VMX file, the description is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlencode, urlsplit

from polyvisor.drivers import vmx
from polyvisor.drivers.base import MIB, Driver, Endpoint, LauncherPlan, Limit, Place, ProbeResult, Rule, Support
from polyvisor.drivers.esx.table import FEATURES
from polyvisor.drivers.uris import UriScheme

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.api import VirtualMachineInstanceSpec

URI = "esx://localhost/"
VOLUMES = PurePosixPath("/vmfs/volumes")
SCSI_DISKS = 15
DATACENTER = "ha-datacenter"
"""What a host that no vCenter manages calls its one datacenter."""
OPTIONS = {"transport": "https|http", "vcenter": r"\*|[A-Za-z0-9.-]+", "auto_answer": "0|1"}
SCHEMES = tuple(
    UriScheme(
        name,
        ("",),
        paths,
        OPTIONS,
        host=True,
        insecure={"transport": "http"},
        unverified={"no_verify": "1"},
        pinned=True,
    )
    for name, paths in (("esx", ("/", "")), ("vpx", ("/*",)))
)

LIMITS = vmx.limits(SCSI_DISKS, Limit(768, vmx.HARDWARE))


class EsxDriver(Driver):
    """libvirt's driver for VMware ESX and vCenter."""

    name = "esx"
    title = "VMware ESX"
    links = ("https://libvirt.org/drvesx.html",)
    uris = ("esx://root@HOST/", "vpx://USER@VCENTER/DATACENTER/CLUSTER/HOST")
    schemes = SCHEMES
    virt_types = ("vmware",)
    place = Place.HOST
    disk_formats = ("vmdk",)
    keeps_metadata = False
    redefines = False

    @property
    def features(self) -> Mapping[str, Support]:
        """The table."""
        return FEATURES

    @property
    def limits(self) -> Mapping[str, Limit]:
        """The limits."""
        return LIMITS

    @property
    def rules(self) -> Mapping[str, Rule]:
        """The rules."""
        return vmx.RULES

    def probe(self, scratch: Path) -> ProbeResult:
        """Say no: an ESX host runs no other programs, so it is never the machine that asks."""
        return ProbeResult(False, "an ESX host is reached over the network; it is never this machine")

    def launcher(self, folder: Path, scratch: Path | None = None, endpoint: Endpoint | None = None) -> LauncherPlan:
        """A connection to the host, whose credentials libvirt reads from their own file."""
        environment = endpoint.environment if endpoint else {}
        return LauncherPlan(uri=endpoint.uri if endpoint else URI, environment=environment, poll_seconds=2.0)

    def defaults(self, spec: VirtualMachineInstanceSpec) -> None:
        """Choose SCSI disks."""
        vmx.choose(spec)

    def adapt(self, domain: _Element, spec: VirtualMachineInstanceSpec) -> None:
        """Keep what libvirt writes into a VMX file, and name images by their datastore."""
        vmx.adapt(domain, spec, SCSI_DISKS, datastore_path)

    def recognizes(self, domain: _Element) -> str:
        """Take domains of which an image is in a datastore; others of the type are a desktop's."""
        sources = [source.get("file", "") for source in domain.iterfind("devices/disk/source[@file]")]
        plain = not any(source.startswith("[") for source in sources)
        return "" if sources and plain else super().recognizes(domain)

    def generalize(self, domain: _Element) -> None:
        """Write images as paths below the folder where a host mounts its datastores."""
        vmx.generalize(domain, host_path)

    def volume_name(self, name: str) -> str:
        """Put each volume into a folder of its own, as a VMDK; libvirt makes no other."""
        stem = name.removesuffix(".vmdk")
        return f"{stem}/{stem}.vmdk"

    def upload_url(self, uri: str, pool: str, volume: str) -> str:
        """Return the address of the file beside a VMDK that has the disk's content, at the host's datastore access.

        The datacenter of a host alone has a name of its own; with a vCenter it is the beginning of the URI's path.
        """
        found = urlsplit(uri)
        parts = [] if found.scheme == "esx" else unquote(found.path).strip("/").split("/")
        datacenter = "/".join(parts[:-2] or parts[:1]) or DATACENTER
        query = urlencode({"dcPath": datacenter, "dsName": pool}, quote_via=quote)
        place = quote(f"/folder/{volume.removesuffix('.vmdk')}-flat.vmdk")
        return f"https://{found.netloc.rpartition('@')[2]}{place}?{query}"

    def overhead_bytes(self, spec: VirtualMachineInstanceSpec) -> int:
        """Count the launcher; the hypervisor's memory is its host's."""
        return 40 * MIB


def host_path(name: str) -> str:
    """Write ``[store] folder/disk.vmdk`` as ``/vmfs/volumes/store/folder/disk.vmdk``; anything else stays."""
    store, bracket, rest = name.removeprefix("[").partition("]")
    if not (name.startswith("[") and bracket):
        return name
    return str(VOLUMES / store / rest.strip())


def datastore_path(path: str) -> str:
    """Write ``/vmfs/volumes/store/folder/disk.vmdk`` as ``[store] folder/disk.vmdk``.

    The first folder of any other path counts as the datastore; what is named by its datastore stays.
    """
    if path.startswith("["):
        return path
    image = PurePosixPath(path)
    parts = image.relative_to(VOLUMES).parts if image.is_relative_to(VOLUMES) else image.parts[1:]
    return f"[{parts[0]}] {'/'.join(parts[1:])}"
