"""Deletion: preconditions, grace, finalizers and what becomes of dependents.

An object goes at once only if nothing holds it. Finalizers hold it; so does a Pod's grace period, until its kubelet
deletes it again with 0 seconds. Cascading is written into the object as a finalizer (``foregroundDeletion`` or
``orphan``) and carried out by the garbage collector, as is everything in the background.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

from polyvisor.api.resources import NAMESPACES, PODS, Resource
from polyvisor.api.times import stamp

from .database import Mismatch
from .errors import Obj, StorageError, bad_request, conflict, forbidden, modified, status_object, storage_failure
from .registry import Options, Registry, clone, key_of, version_of

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
Policy = Literal["Background", "Foreground", "Orphan"]
_ATTEMPTS = 20
_PROTECTED = frozenset(["default", "kube-system"])


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """What a client asked of a deletion."""

    policy: Policy | None = None
    grace: int | None = None
    uid: str = ""
    version: str = ""
    dry_run: bool = False


def parse_options(body: Any, query: dict[str, str]) -> DeleteOptions:
    """Read ``DeleteOptions`` from a body and the query."""
    given: Obj = body if isinstance(body, dict) else {}
    preconditions = given.get("preconditions") or {}
    policy = given.get("propagationPolicy") or query.get("propagationPolicy")
    orphan = given.get("orphanDependents", query.get("orphanDependents"))
    if orphan is not None and not policy:
        policy = "Orphan" if orphan in (True, "true") else "Background"
    if policy not in (None, "Background", "Foreground", "Orphan"):
        raise bad_request(f"propagationPolicy: Unsupported value: {policy!r}: use Background, Foreground or Orphan")
    grace = given.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))
    try:
        seconds = None if grace is None else int(grace)
    except (TypeError, ValueError):
        raise bad_request(f"gracePeriodSeconds: must be a number, not {grace!r}") from None
    if seconds is not None and seconds < 0:
        raise bad_request("gracePeriodSeconds: must not be negative")
    dry_run = given.get("dryRun") or ([query["dryRun"]] if query.get("dryRun") else [])
    if dry_run not in ([], ["All"]):
        raise bad_request(f"dryRun: Unsupported value: {dry_run}: the only supported value is All")
    return DeleteOptions(
        cast(Policy | None, policy),
        seconds,
        str(preconditions.get("uid") or ""),
        str(preconditions.get("resourceVersion") or ""),
        bool(dry_run),
    )


class Deleter:
    """The verbs that remove."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._store = registry.store

    async def delete(
        self, resource: Resource, namespace: str, name: str, asked: DeleteOptions, options: Options | None = None
    ) -> tuple[Obj, bool]:
        """Delete an object. Return it, or a ``Status`` if it is gone, and whether it is gone."""
        if options is not None:
            self._registry.check_writable(resource)
        if resource is NAMESPACES and name in _PROTECTED:
            raise forbidden(
                f'namespaces "{name}" is forbidden: this namespace may not be deleted', "namespaces", "", name
            )
        key = key_of(resource, namespace, name)
        for _ in range(_ATTEMPTS):
            old = self._registry.get(resource, namespace, name)
            _check_preconditions(resource, name, old, asked)
            if options is not None:
                self._registry.admit_delete(resource, old, options)
            new = _marked(resource, old, asked)
            if asked.dry_run:
                return (_gone(resource, old), True) if new is None else (new, False)
            if new == old:
                return old, False
            try:
                if new is None:
                    await self._store.remove(key, version_of(old))
                    return _gone(resource, old), True
                return await self._store.put(key, new, version_of(old)), False
            except Mismatch:
                continue
            except StorageError as error:
                raise storage_failure(error) from error
        raise modified(resource.plural, resource.group, name)


def _gone(resource: Resource, old: Obj) -> Obj:
    metadata = old["metadata"]
    details = {"name": metadata["name"], "group": resource.group, "kind": resource.plural, "uid": metadata["uid"]}
    return status_object(200, "", "", {key: value for key, value in details.items() if value})


def _check_preconditions(resource: Resource, name: str, old: Obj, asked: DeleteOptions) -> None:
    metadata = old["metadata"]
    for what, wanted, found in (
        ("UID", asked.uid, metadata["uid"]),
        ("ResourceVersion", asked.version, metadata["resourceVersion"]),
    ):
        if wanted and wanted != found:
            why = f"Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
            raise conflict(resource.plural, resource.group, name, why)


def _grace(resource: Resource, old: Obj, asked: DeleteOptions) -> int:
    """Return the seconds for which a Pod is left to its kubelet; everything else has none."""
    if resource is not PODS:
        return 0
    spec, phase = old.get("spec", {}), old.get("status", {}).get("phase")
    if not spec.get("nodeName") or phase in ("Succeeded", "Failed"):
        return 0
    if asked.grace is not None:
        return asked.grace
    return int(spec.get("terminationGracePeriodSeconds", 30))


def _marked(resource: Resource, old: Obj, asked: DeleteOptions) -> Obj | None:
    """Return the object as deletion leaves it: marked, unchanged, or None if nothing holds it."""
    metadata = old["metadata"]
    finalizers = list(metadata.get("finalizers", []))
    if asked.policy is not None or not metadata.get("deletionTimestamp"):
        wanted = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(asked.policy or "")
        finalizers = [one for one in finalizers if one not in (FOREGROUND, ORPHAN) or one == wanted]
        if wanted and wanted not in finalizers:
            finalizers.append(wanted)
    grace = _grace(resource, old, asked)
    if metadata.get("deletionTimestamp"):
        grace = min(grace, metadata.get("deletionGracePeriodSeconds", grace))
    held = bool(finalizers) or grace > 0 or (resource is NAMESPACES and bool(old.get("spec", {}).get("finalizers")))
    if not held:
        return None
    new: Obj = clone(old)
    marked = new["metadata"]
    marked.pop("finalizers", None)
    if finalizers:
        marked["finalizers"] = finalizers
    if not metadata.get("deletionTimestamp") or grace != metadata.get("deletionGracePeriodSeconds"):
        marked["deletionTimestamp"] = stamp(datetime.now(UTC) + timedelta(seconds=grace))
        marked["deletionGracePeriodSeconds"] = grace
    if not metadata.get("deletionTimestamp") and "generation" in marked:
        marked["generation"] += 1
    if resource is NAMESPACES:
        new.setdefault("status", {})["phase"] = "Terminating"
    return new
