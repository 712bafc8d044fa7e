"""From libvirt's XML of a domain to a VirtualMachine: for `polyvisor import`, and for domains that a host runs already.

Pure: text and a mapping in, manifests and notes out. ``convert`` is the way in. What KubeVirt's API cannot express is
returned beside the machine and written into its annotation, so that nothing is lost.
"""

from polyvisor.adoption.convert import convert, convert_all
from polyvisor.adoption.values import (
    Conversion,
    ConversionError,
    Mapping,
    NetworkMapping,
    Note,
    Outcome,
    PoolMapping,
)

__all__ = [
    "Conversion",
    "ConversionError",
    "Mapping",
    "NetworkMapping",
    "Note",
    "Outcome",
    "PoolMapping",
    "convert",
    "convert_all",
]
