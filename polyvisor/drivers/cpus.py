"""Which CPUs a node can show to guests, read from libvirt's own documents; what labels of nodes are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lxml import etree

from polyvisor.drivers.base import Cpus


def read(found: Mapping[str, str], architecture: str) -> Cpus:
    """Read what a launcher's ``capabilities`` gave."""
    domain = etree.fromstring(found["domain"].encode())
    host = etree.fromstring(found["host"].encode())
    mode = domain.find("cpu/mode[@name='host-model']")
    model = mode.findtext("model") or "" if mode is not None else ""
    usable = {
        each.text or "" for each in domain.iterfind("cpu/mode[@name='custom']/model") if each.get("usable") == "yes"
    }
    every = etree.fromstring(found["cpu"].encode()) if found["cpu"] else None
    return Cpus(
        models=tuple(sorted(usable | {model} - {""})),
        features=_features(every),
        host_model=model,
        host_features=_features(mode),
        vendor=mode.findtext("vendor") or "" if mode is not None else "",
        machines=_names(host.iterfind(f"guest/arch[@name='{architecture}']/machine")),
        deprecated=_names(host.iterfind(f"guest/arch[@name='{architecture}']/machine[@deprecated='yes']")),
    )


def _names(machines: Iterable[etree._Element]) -> tuple[str, ...]:
    return tuple(sorted({name for each in machines for name in (each.text, each.get("canonical")) if name}))


def _features(cpu: etree._Element | None) -> tuple[str, ...]:
    found = cpu.iterfind("feature") if cpu is not None else ()
    return tuple(sorted({each.get("name") or "" for each in found if each.get("policy") == "require"}))
