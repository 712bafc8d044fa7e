"""The mark of ownership in a domain's metadata, or its description: which installation's it is, and which machine's.

The launcher compares it before it does anything to a domain (:mod:`polyvisor.launcher.endpoint.owned`).
"""

from __future__ import annotations

from lxml import etree

from polyvisor.api import Obj

SPACE = "http://hypervisor.kubevirt.io/owner/1.0"


def element(cluster: str, vmi: Obj, *, adopted: bool = False) -> etree._Element:
    """Return the mark of a machine; ``adopted`` says that the domain was there before the machine."""
    owner = etree.Element(f"{{{SPACE}}}owner", nsmap={"polyvisor": SPACE})
    metadata = vmi["metadata"]
    named = {"machine": metadata["uid"], "namespace": metadata["namespace"], "name": metadata["name"]}
    for key, value in {"cluster": cluster, **named, **({"adopted": "yes"} if adopted else {})}.items():
        owner.set(key, str(value))
    return owner


def text(cluster: str, vmi: Obj, *, adopted: bool = False) -> str:
    """Return the mark as XML."""
    return etree.tostring(element(cluster, vmi, adopted=adopted), encoding="unicode")


def add(domain: etree._Element, mark: etree._Element, *, metadata: bool = True) -> None:
    """Write a mark into a domain that is to be defined: into its metadata, else as its description, on one line."""
    if not metadata:
        description = domain.makeelement("description", {})
        description.text = etree.tostring(mark, encoding="unicode")
        domain.insert(2, description)
        return
    _add_metadata(domain, mark)


def _add_metadata(domain: etree._Element, mark: etree._Element) -> None:
    metadata = domain.find("metadata")
    if metadata is None:
        metadata = domain.makeelement("metadata", {})
        domain.insert(2, metadata)  # behind name and uuid
    metadata.append(mark)
