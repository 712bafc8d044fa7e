"""Which CPUs a node can show to guests, read from libvirt's own documents; what labels of nodes are made of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from polyvisor.domain.reading import parsed
from polyvisor.drivers.base import Cpus

if TYPE_CHECKING:
    from lxml.etree import _Element

MAX_NAMES = 2048
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,62}")
_ARCHITECTURE = re.compile(r"[a-z0-9_]{1,32}")


def read(found: Mapping[str, str], architecture: str) -> Cpus:
    """Read what a launcher's ``capabilities`` gave; what is no name of a model, feature or machine type is left out.

    Raises ValueError for what is no XML.
    """
    if not _ARCHITECTURE.fullmatch(architecture):
        raise ValueError(f"{architecture[:80]!r} is not an architecture")
    domain, host = parsed(found["domain"]), parsed(found["host"])
    mode = domain.find("cpu/mode[@name='host-model']")
    model = mode.findtext("model") or "" if mode is not None else ""
    usable = {
        each.text or "" for each in domain.iterfind("cpu/mode[@name='custom']/model") if each.get("usable") == "yes"
    }
    every = parsed(found["cpu"]) if found["cpu"] else None
    return Cpus(
        models=_kept(usable | {model}),
        features=_features(every),
        host_model=next(iter(_kept({model})), ""),
        host_features=_features(mode),
        vendor=next(iter(_kept({mode.findtext("vendor") or ""})), "") if mode is not None else "",
        machines=_names(host.iterfind(f"guest/arch[@name='{architecture}']/machine")),
        deprecated=_names(host.iterfind(f"guest/arch[@name='{architecture}']/machine[@deprecated='yes']")),
    )


def _kept(names: Iterable[str]) -> tuple[str, ...]:
    """Return what are names, in order; they become labels of Nodes."""
    return tuple(sorted({name for name in names if _NAME.fullmatch(name)})[:MAX_NAMES])


def _names(machines: Iterable[_Element]) -> tuple[str, ...]:
    return _kept(name for each in machines for name in (each.text, each.get("canonical")) if name)


def _features(cpu: _Element | None) -> tuple[str, ...]:
    found = cpu.iterfind("feature") if cpu is not None else ()
    return _kept(each.get("name") or "" for each in found if each.get("policy") == "require")
