"""libvirt domain XML for a machine, from blocks that drivers share. Pure: values in, text out.

No text is ever pasted into XML here: everything becomes an element, an attribute or a text node of lxml, so what a user
wrote stays what a user wrote.
"""

from polyvisor.domain.context import CardSource, DiskSource, DomainContext, HostNetwork, HostPath, Share
from polyvisor.domain.identity import domain_name, domain_uuid
from polyvisor.domain.render import render

__all__ = [
    "CardSource",
    "DiskSource",
    "DomainContext",
    "HostNetwork",
    "HostPath",
    "Share",
    "domain_name",
    "domain_uuid",
    "render",
]
