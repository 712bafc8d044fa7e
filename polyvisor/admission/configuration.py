"""Rules for the KubeVirt object: which drivers the cluster enables."""

from __future__ import annotations

from polyvisor.admission import architecture
from polyvisor.admission.paths import image_error
from polyvisor.admission.values import Findings, items, mapping, text, texts
from polyvisor.api import Obj, nearest
from polyvisor.api.tls_ciphers import CIPHERS, KNOWN
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.enablement import by_name_or_alias


def effective(configuration: Obj, drivers: DriverRegistry) -> Obj:
    """Return a cluster's configuration with the drivers that hold where the administrator lists none."""
    if configuration.get("hypervisors"):
        return configuration
    return {**configuration, "hypervisors": [{"name": one.name} for one in drivers if one.enabled_by_default]}


def validate(kubevirt: Obj, drivers: DriverRegistry, found: Findings) -> None:
    """Check the configuration of the cluster."""
    architecture.validate_default(mapping(kubevirt, "spec", "configuration"), found)
    _tls(mapping(kubevirt, "spec", "configuration").get("tlsConfiguration"), found)
    _overhead_ratio(mapping(kubevirt, "spec", "configuration").get("additionalGuestMemoryOverheadRatio"), found)
    path = "spec.configuration.hypervisors"
    listed = mapping(kubevirt, "spec", "configuration").get("hypervisors")
    known = [*drivers.names(), *(alias for driver in drivers for alias in driver.aliases)]
    seen: dict[str, str] = {}
    for where, item in items(listed, path):
        name = text(item.get("name"))
        if not name:
            found.required(f"{where}.name", f"required; known: {', '.join(known)}")
        elif by_name_or_alias(name, drivers) is None:
            near = nearest(name, known) if len(name) < 64 else ""
            hint = f"; did you mean {near}?" if near else ""
            message = f"no driver has the name {name[:64]!r}; known: {', '.join(known)}{hint}"
            found.add(f"{where}.name", message, "FieldValueNotSupported")
        elif seen.setdefault(name, where) != where:
            found.duplicate(f"{where}.name", f"{name} is {seen[name]} already")
        image = text(item.get("launcherImage"))
        if image and (error := image_error(image)):
            found.add(f"{where}.launcherImage", error)


def _tls(asked: object, found: Findings) -> None:
    """Check ``tlsConfiguration`` by KubeVirt's rules; warn of what goes with no listener here."""
    path = "spec.configuration.tlsConfiguration"
    version, ciphers = text(mapping(asked).get("minTLSVersion")), texts(mapping(asked).get("ciphers"))
    if version in ("VersionTLS10", "VersionTLS11"):
        found.warnings.append(f"{path}.minTLSVersion: TLS 1.0 and 1.1 are not served; VersionTLS12 holds")
    if not ciphers:
        return
    if version in ("", "VersionTLS13"):
        message = "You cannot specify ciphers when minTLSVersion is empty or VersionTLS13; its suites cannot be chosen"
        found.add(f"{path}.ciphers", message, "FieldValueNotSupported")
        return
    for number, name in enumerate(ciphers):
        if name not in KNOWN:
            message = f"{name[:64]!r} is not a valid cipher; served: {', '.join(CIPHERS)}"
            found.add(f"{path}.ciphers[{number}]", message, "FieldValueNotSupported")
    if not set(ciphers) & set(CIPHERS):
        message = (
            f"none of them goes with keys on elliptic curves, so TLS 1.3 alone is served; add {next(iter(CIPHERS))}"
        )
        found.warnings.append(f"{path}.ciphers: {message}")


def _overhead_ratio(given: object, found: Findings) -> None:
    path = "spec.configuration.additionalGuestMemoryOverheadRatio"
    if given is None or given == "":
        return
    ratio = overhead_ratio(given)
    if ratio is None:
        found.add(path, f'found {text(given)[:32]!r}; a number of at least 1.0 is wanted, such as "1.5"')


def overhead_ratio(given: object) -> float | None:
    """Return ``additionalGuestMemoryOverheadRatio`` as a number, None for what is no such ratio."""
    try:
        ratio = float(text(given))
    except ValueError:
        return None
    return ratio if 1.0 <= ratio < float("inf") else None
