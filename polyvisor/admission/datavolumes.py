"""Rules for DataVolumes, as objects of their own and as templates of a VirtualMachine."""

from __future__ import annotations

from urllib.parse import urlsplit

from polyvisor.admission.paths import image_error
from polyvisor.admission.values import Findings, amount, mapping, text, texts
from polyvisor.api import Obj, check
from polyvisor.api.implemented import IMPLEMENTED
from polyvisor.api.metadata import check_metadata, dns_label_error, dns_subdomain_error

SOURCES = tuple(sorted(IMPLEMENTED["CdiDataVolumeSource"]))
CONTENTS = ("kubevirt", "archive")


def admit_data_volume(volume: Obj, old: Obj | None, found: Findings) -> None:
    """Check a DataVolume; its spec never changes."""
    if old is not None and volume.get("spec") == old.get("spec"):
        found.problems += check_metadata(volume.get("metadata"))
        return
    if old is not None:
        found.add("spec", "a DataVolume cannot be changed; delete it and make another", "FieldValueForbidden")
        return
    from polyvisor.api import DataVolume  # seldom needed

    found.problems += check(DataVolume, volume)
    validate_spec(mapping(volume, "spec"), "spec", found)


def validate_spec(spec: Obj, path: str, found: Findings) -> None:
    """Check the spec of a DataVolume that stands at ``path``."""
    targets = [name for name in ("pvc", "storage") if spec.get(name) is not None]
    if len(targets) != 1:
        found.add(path, f"{'pvc and storage exclude each other' if targets else 'no storage is asked for'}; give one")
    source = mapping(spec, "source")
    kinds = [kind for kind in SOURCES if source.get(kind) is not None]
    if len(kinds) != 1:
        said = f"{' and '.join(kinds)} exclude each other" if kinds else "a source is wanted"
        found.add(f"{path}.source", f"{said}; give one of {', '.join(SOURCES)}")
    content = spec.get("contentType")
    if content and content not in CONTENTS:
        message = f"found {text(content)[:80]!r}, accepted: {', '.join(CONTENTS)}"
        found.add(f"{path}.contentType", message, "FieldValueNotSupported")
    if content == "archive" and not {"http", "upload"} & set(kinds):
        found.add(f"{path}.contentType", "an archive comes by http or upload")
    for target in targets if content == "archive" else ():
        if mapping(spec, target).get("volumeMode") == "Block":
            found.add(f"{path}.{target}.volumeMode", "an archive becomes a folder; Filesystem is accepted for it")
    for target in targets:
        _size(mapping(spec, target), f"{path}.{target}", "pvc" in kinds and target == "storage", found)
    for kind in kinds:
        _source(kind, mapping(source, kind), f"{path}.source.{kind}", found)


def _size(target: Obj, path: str, may_follow: bool, found: Findings) -> None:
    given = mapping(target, "resources", "requests").get("storage")
    size = amount(given)
    if given is None and not may_follow:
        found.required(f"{path}.resources.requests.storage", "required; the size of the volume")
    elif size is not None and size <= 0:
        found.add(f"{path}.resources.requests.storage", f"found {given}; a number of bytes such as 1Gi is wanted")


def _source(kind: str, source: Obj, path: str, found: Findings) -> None:
    if kind == "http":
        try:
            parts = urlsplit(text(source.get("url")))
            good = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            good = False
        if not good:
            found.add(f"{path}.url", "an address that begins with http:// or https:// is wanted")
        for number, header in enumerate(texts(source.get("extraHeaders"))):
            if ":" not in header or any(ord(letter) < 32 for letter in header):
                found.add(f"{path}.extraHeaders[{number}]", "a header such as 'X-Name: value' is wanted")
    elif kind == "registry":
        url = text(source.get("url"))
        if not url.startswith("docker://") or image_error(url.removeprefix("docker://")):
            found.add(f"{path}.url", "an image such as docker://registry.example/team/disk:1 is wanted")
    elif kind == "pvc":
        for key, rule in (("namespace", dns_label_error), ("name", dns_subdomain_error)):
            if error := rule(text(source.get(key))):
                found.add(f"{path}.{key}", error)
    for key in ("secretRef", "certConfigMap"):
        if (name := text(source.get(key))) and (error := dns_subdomain_error(name)):
            found.add(f"{path}.{key}", error)
