"""What a kind of object is to the API: its names, its URL, its columns. The kinds themselves: :mod:`.resources`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Column:
    """One printer column."""

    name: str
    path: str
    type: Literal["string", "integer", "number", "boolean", "date"] = "string"
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object and how it is addressed. ``group`` is empty for the core group."""

    group: str
    version: str
    plural: str
    kind: str
    singular: str = ""
    short_names: tuple[str, ...] = ()
    namespaced: bool = True
    subresources: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    categories: tuple[str, ...] = ()
    custom: bool = False
    """True for the kinds that a cluster learns from our CRD manifests."""
    also_served: tuple[str, ...] = ()
    """Older versions of the API under which a cluster serves the kind too, with the same fields."""
    refused: str = ""
    """What to do instead, for a kind of KubeVirt's that is known by name alone: no object of it can be made."""

    @property
    def api_version(self) -> str:
        """``v1`` or ``group/version``, as objects carry it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def api_versions(self) -> tuple[str, ...]:
        """Every ``apiVersion`` that objects may carry, the present one first."""
        return (self.api_version, *(f"{self.group}/{version}" for version in self.also_served))

    @property
    def full_name(self) -> str:
        """``plural.group``, the name of its CRD and of the resource in messages."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def has_status(self) -> bool:
        """Whether status is written through a subresource of its own."""
        return "status" in self.subresources

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the URL path of a collection or an object."""
        parts = ["/api" if not self.group else f"/apis/{self.group}", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)
