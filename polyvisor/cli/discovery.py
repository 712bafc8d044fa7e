"""Which kinds the server has, and which one a user means by ``vm``, ``pods`` or ``leases.coordination.k8s.io``.

The server is asked (aggregated discovery, or the older one), not our own table: the commands work on any cluster and
for any kind in it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from polyvisor.api.reading import nested
from polyvisor.cli.client import Client, Obj
from polyvisor.cli.errors import CliError, ExitCode

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
PREFERRED_GROUPS = ("", "kubevirt.io")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind as the server announces it."""

    group: str
    version: str
    plural: str
    kind: str
    singular: str
    short_names: tuple[str, ...]
    namespaced: bool
    categories: tuple[str, ...]
    also_served: tuple[str, ...] = ()
    """Its other versions, under which the server takes it too."""

    @property
    def api_version(self) -> str:
        """The ``apiVersion`` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def label(self) -> str:
        """Its name as kubectl prints it: ``virtualmachine.kubevirt.io``."""
        return f"{self.singular}.{self.group}" if self.group else self.singular

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the URL path of a collection (all namespaces if none is given) or of an object."""
        parts = [f"/apis/{self.group}" if self.group else "/api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        return "/".join([*parts, self.plural, *(p for p in (name, subresource) if p)])


class Discovery:
    """The server's kinds, asked for once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._kinds: list[Kind] | None = None

    @property
    def kinds(self) -> list[Kind]:
        """All kinds; core and KubeVirt's first, so that short names mean those."""
        if self._kinds is None:
            found = [kind for root in ("/api", "/apis") for kind in self._read(root)]
            order = {group: index for index, group in enumerate(PREFERRED_GROUPS)}
            self._kinds = sorted(found, key=lambda k: order.get(k.group, len(order)))
        return self._kinds

    def find(self, word: str) -> Kind:
        """Return the kind that a user means by one word."""
        name, _, group = word.lower().partition(".")
        for kind in self.kinds:
            if (not group or group == kind.group) and name in (
                kind.plural,
                kind.singular,
                kind.kind.lower(),
                *kind.short_names,
            ):
                return kind
        known = {n for k in self.kinds for n in (k.plural, *k.short_names)}
        near = difflib.get_close_matches(name, known, n=1)
        raise CliError(
            f"the server has no kind {word!r}" + (f"; do you mean {near[0]!r}?" if near else ""),
            ExitCode.NOT_FOUND,
            "Kinds here: " + ", ".join(sorted({k.short_names[0] if k.short_names else k.plural for k in self.kinds})),
        )

    def find_all(self, words: str) -> list[Kind]:
        """Return the kinds of ``vm,vmi``, or of a category such as ``all``."""
        found: list[Kind] = []
        for word in filter(None, words.split(",")):
            category = [k for k in self.kinds if word in k.categories]
            found += [k for k in (category or [self.find(word)]) if k not in found]
        return found

    def of(self, api_version: str, kind: str) -> Kind | None:
        """Return the kind of a manifest in its own version, or None if the server does not know it."""
        group, _, version = api_version.rpartition("/")
        for one in self.kinds:
            if one.kind == kind and one.group == group and version in (one.version, *one.also_served):
                return replace(one, version=version)
        return None

    def _read(self, root: str) -> list[Kind]:
        answer = self._client.get(root, accept=AGGREGATED)
        if answer.get("kind") == "APIGroupDiscoveryList":
            return [kind for item in answer.get("items", ()) for kind in _aggregated(item)]
        if root == "/api":
            return _legacy("", "v1", self._client.get("/api/v1"))
        found: list[Kind] = []
        for group in answer.get("groups", ()):
            preferred = group["preferredVersion"]["version"]
            names = dict.fromkeys([preferred, *(one["version"] for one in group.get("versions", ()))])
            listed = [_legacy(group["name"], name, self._client.get(f"/apis/{group['name']}/{name}")) for name in names]
            found += _joined(kind for kinds in listed for kind in kinds)
        return found


def _aggregated(item: Obj) -> list[Kind]:
    group = nested(item, "metadata").get("name") or ""
    found: list[Kind] = []
    for version in item.get("versions", ()):
        for r in version.get("resources", ()):
            kind = nested(r, "responseKind").get("kind") or ""
            if kind and r.get("scope") and not group.startswith("subresources."):
                found.append(
                    Kind(
                        group,
                        version["version"],
                        r["resource"],
                        kind,
                        r.get("singularResource") or kind.lower(),
                        tuple(r.get("shortNames") or ()),
                        r["scope"] == "Namespaced",
                        tuple(r.get("categories") or ()),
                    )
                )
    return _joined(found)


def _joined(kinds: Iterable[Kind]) -> list[Kind]:
    """Return each kind once, in its first version, with the others that it is served in."""
    found: dict[str, Kind] = {}
    for kind in kinds:
        first = found.setdefault(kind.plural, kind)
        if kind is not first:
            found[kind.plural] = replace(first, also_served=(*first.also_served, kind.version))
    return list(found.values())


def _legacy(group: str, version: str, answer: Obj) -> list[Kind]:
    return [
        Kind(
            group,
            version,
            r["name"],
            r["kind"],
            r.get("singularName") or r["kind"].lower(),
            tuple(r.get("shortNames") or ()),
            bool(r["namespaced"]),
            tuple(r.get("categories") or ()),
        )
        for r in answer.get("resources", ())
        if "/" not in r["name"] and not group.startswith("subresources.")
    ]
