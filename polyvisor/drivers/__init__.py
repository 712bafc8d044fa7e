"""The drivers: one folder each, found through the entry point group ``polyvisor.drivers``.

Polyvisor's own drivers are found the same way as those of other packages. A plug-in that cannot be imported or breaks
the contract is left out and named in ``problems``: it must not take the rest down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from polyvisor.drivers.base import DRIVER_API, Driver, Support, Verdict

GROUP = "polyvisor.drivers"
MOST = 300
"""Characters of a plug-in's own error message that are shown."""
PREFERENCE = ("qemu",)
"""Those tried first where nobody says otherwise; the rest follow by name."""


class DriverRegistry:
    """The drivers that there are, in the order of preference; ``problems`` says which were left out, and why."""

    def __init__(self, drivers: Iterable[Driver], problems: Iterable[str] = ()) -> None:
        rank = {name: number for number, name in enumerate(PREFERENCE)}
        ordered = sorted(drivers, key=lambda driver: (rank.get(driver.name, len(rank)), driver.name))
        self._drivers = {driver.name: driver for driver in ordered}
        self.problems = tuple(problems)

    def get(self, name: str) -> Driver | None:
        """Return the driver of that name."""
        return self._drivers.get(name)

    def names(self) -> tuple[str, ...]:
        """Return the drivers' names."""
        return tuple(self._drivers)

    def __iter__(self) -> Iterator[Driver]:
        return iter(self._drivers.values())

    def __len__(self) -> int:
        return len(self._drivers)

    def __contains__(self, name: object) -> bool:
        return name in self._drivers


@cache
def registry() -> DriverRegistry:
    """Return the drivers that are installed."""
    return load(entry_points(group=GROUP))


def load(points: Iterable[EntryPoint]) -> DriverRegistry:
    """Make a registry of what the entry points name; Polyvisor's own come first, so that no other takes their name."""
    drivers: dict[str, Driver] = {}
    problems = []
    for point in sorted(points, key=lambda point: not point.value.startswith(f"{GROUP}.")):
        try:
            driver = point.load()()
            flaws = contract_flaws(driver, point.name)
        except (Exception, SystemExit) as error:  # whatever a plug-in raises, it must not take the others down
            flaws = [" ".join(f"{type(error).__name__}: {error}".split())[:MOST]]
        if not flaws and driver.name in drivers:
            if type(driver) is type(drivers[driver.name]):
                continue
            flaws = ["another driver has this name"]
        if flaws:
            problems.append(f"driver {point.name} ({point.value}) is left out: {'; '.join(flaws)}")
        else:
            drivers[driver.name] = driver
    return DriverRegistry(drivers.values(), problems)


def is_own(driver: Driver) -> bool:
    """Whether a driver is Polyvisor's own, and not of another package."""
    return type(driver).__module__.startswith(f"{GROUP}.")


def contract_flaws(driver: object, name: str) -> list[str]:
    """Say what keeps an object from being a driver of that name."""
    if not isinstance(driver, Driver):
        return ["it is not a subclass of polyvisor.drivers.base.Driver"]
    flaws = [f"it lacks {word}" for word in ("name", "title", "virt_types") if not getattr(driver, word, None)]
    if flaws:
        return flaws
    if not is_own(driver) and driver.api != DRIVER_API:
        found = f"it is written for version {driver.api} of the contract" if driver.api else "it does not say its api"
        return [f"{found}; this Polyvisor has version {DRIVER_API}: see docs/writing-a-driver.md, and set api"]
    if driver.name != name:
        flaws.append(f"it calls itself {driver.name}")
    for word in ("virt_types", "os_types", "uris", "links", "disk_formats"):
        value = getattr(driver, word)
        if isinstance(value, str) or not all(isinstance(item, str) for item in value):
            flaws.append(f"{word} is not a tuple of texts")
    for feature, support in driver.features.items():
        if not isinstance(support, Support):
            flaws.append(f"{feature}: the answer is not a Support")
        elif not support.source:
            flaws.append(f"{feature}: no source is given")
        elif support.verdict is not Verdict.SUPPORTED and not support.reason:
            flaws.append(f"{feature}: no reason is given")
    return flaws
