"""The verbs that write: create, update, patch, apply and bind, with Kubernetes' meaning, over a store.

Each reads the object, works out the new one, and writes it if nobody was faster; else it starts again, unless the
client said which version it means. All of it works without HTTP; so controllers' tests can use it directly.
"""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from polyvisor.api.problems import Problem
from polyvisor.api.resources import NAMESPACES, Resource

from . import apply as ssa
from . import core_rules
from .clock import now
from .core_fields import prune
from .database import Key, Mismatch
from .errors import (
    Obj,
    StatusError,
    StorageError,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    modified,
    not_found,
    storage_failure,
)
from .kinds import ADVICE, SERVICE_ACCOUNTS, why_read_only
from .store import Store
from .strategies import has_generation, on_create, on_update, on_write
from .validation import check_metadata, check_type, check_update, drop_nulls, unknown_fields

Admit = Callable[[str, Resource, Obj, Obj | None], tuple[Obj, Sequence[Problem], Sequence[str]]]
T = TypeVar("T")
_ATTEMPTS = 20
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"


@dataclass(slots=True)
class Options:
    """How a write is meant. ``warnings`` collects what the client shall be told beside the result."""

    manager: str = "unknown"
    dry_run: bool = False
    force: bool = False
    validation: str = "Warn"
    warnings: list[str] = field(default_factory=list)


def admit_all(operation: str, resource: Resource, obj: Obj, old: Obj | None) -> tuple[Obj, list[Problem], list[str]]:
    """Admit everything as it is."""
    return obj, [], []


def key_of(resource: Resource, namespace: str, name: str) -> Key:
    """Return the place of an object in the store."""
    return kind_of(resource), namespace if resource.namespaced else "", name


def kind_of(resource: Resource) -> str:
    """Return the store's word for a kind."""
    return f"{resource.group}/{resource.plural}"


def clone(obj: T) -> T:
    """Copy plain JSON."""
    copied: T = json.loads(json.dumps(obj))
    return copied


def version_of(obj: Obj) -> int:
    """Return an object's resourceVersion as a number; 0 if it has none."""
    text = obj["metadata"].get("resourceVersion") or "0"
    if not text.isdigit():
        raise bad_request(f"metadata.resourceVersion: Invalid value: {text!r}: must be a number")
    return int(text)


def _same(one: Obj, other: Obj) -> bool:
    """Compare without what bookkeeping changes."""

    def essence(obj: Obj) -> Obj:
        skipped = ("managedFields", "resourceVersion")
        metadata = {name: value for name, value in obj["metadata"].items() if name not in skipped}
        return {**obj, "metadata": metadata}

    return essence(one) == essence(other)


class Registry:
    """The objects behind the API, with the rules for writing them."""

    def __init__(self, store: Store, admit: Admit = admit_all) -> None:
        self.store = store
        self._admit = admit

    # --- reading

    def get(self, resource: Resource, namespace: str, name: str) -> Obj:
        """Return an object; 404 if there is none."""
        found = self.store.get(*key_of(resource, namespace, name))
        if found is None:
            raise not_found(resource.plural, resource.group, name)
        return found

    # --- writing

    async def create(self, resource: Resource, namespace: str, body: Any, options: Options) -> Obj:
        """Create an object."""
        self.check_writable(resource)
        obj = self._checked(resource, clone(body), options)
        self._place(resource, namespace, obj)
        metadata = obj["metadata"]
        if metadata.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        generated = not metadata.get("name") and metadata.get("generateName")
        for _ in range(8):
            if generated:
                suffix = "".join(secrets.choice(_SUFFIX) for _ in range(5))
                metadata["name"] = metadata["generateName"][:58] + suffix
            try:
                return await self._create(resource, namespace, obj, options, lambda new: new)
            except StatusError as error:
                if not generated or error.reason != "AlreadyExists":
                    raise
        raise already_exists(resource.plural, resource.group, metadata["name"])

    async def _create(
        self, resource: Resource, namespace: str, body: Obj, options: Options, own: Callable[[Obj], Obj] | None
    ) -> Obj:
        obj: Obj = clone(body)
        metadata = obj["metadata"]
        name = metadata.get("name", "")
        for unset in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"):
            metadata.pop(unset, None)
        problems = check_metadata(resource, obj)
        self._namespace_ready(resource, namespace, name)
        if self.store.get(*key_of(resource, namespace, name)) is not None:
            raise already_exists(resource.plural, resource.group, name)
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = now()
        if has_generation(resource):
            metadata["generation"] = 1
        on_create(resource, obj)
        if own is not None:
            obj = ssa.track_update(resource, None, obj, options.manager)
        obj = self._admitted("CREATE", resource, obj, None, options, problems)
        options.warnings += ADVICE.get(resource, ())
        if options.dry_run:
            return obj
        try:
            made = await self.store.put(key_of(resource, namespace, name), obj, 0)
        except Mismatch as error:
            raise already_exists(resource.plural, resource.group, name) from error
        except StorageError as error:
            raise storage_failure(error) from error
        if resource is NAMESPACES:
            await self.create(SERVICE_ACCOUNTS, name, {"metadata": {"name": "default"}}, Options(manager="apiserver"))
        return made

    async def update(
        self, resource: Resource, namespace: str, name: str, body: Any, options: Options, subresource: str = ""
    ) -> Obj:
        """Replace an object, or its status."""
        wanted = self._checked(resource, clone(body), options)
        self._place(resource, namespace, wanted)
        metadata = wanted["metadata"]
        if metadata.get("name", name) != name:
            message = f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
            raise bad_request(message)
        metadata["name"] = name
        if resource.custom and not metadata.get("resourceVersion"):
            problem = Problem("metadata.resourceVersion", "Invalid value: 0x0: must be specified for an update")
            raise invalid(resource.kind, resource.group, name, [problem])
        return await self.change(resource, namespace, name, lambda _: clone(wanted), options, subresource)

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch: Callable[[Obj], Any],
        options: Options,
        subresource: str = "",
    ) -> Obj:
        """Change an object by a function from the present one to the wanted one."""

        def changed(old: Obj) -> Obj:
            wanted = self._checked(resource, clone(patch(clone(old))), options)
            self._place(resource, namespace, wanted)
            return wanted

        return await self.change(resource, namespace, name, changed, options, subresource)

    async def apply(
        self, resource: Resource, namespace: str, name: str, body: Any, options: Options, subresource: str = ""
    ) -> tuple[Obj, bool]:
        """Apply a configuration; tell whether the object was created by it."""
        self.check_writable(resource)
        wanted = self._checked(resource, clone(body), options)
        self._place(resource, namespace, wanted)
        if wanted["metadata"].setdefault("name", name) != name:
            raise bad_request(f"the name of the object does not match the name on the URL ({name})")
        if self.store.get(*key_of(resource, namespace, name)) is None:
            if subresource:
                raise not_found(resource.plural, resource.group, name)
            if wanted["metadata"].get("uid") or wanted["metadata"].get("resourceVersion"):
                why = "Precondition failed: the object does not exist"
                raise conflict(resource.plural, resource.group, name, why)
            new = ssa.apply(resource, None, wanted, options.manager, options.force)
            return await self._create(resource, namespace, new, options, None), True

        def applied(old: Obj) -> Obj:
            return clone(ssa.apply(resource, old, clone(wanted), options.manager, options.force, subresource))

        return await self.change(resource, namespace, name, applied, options, subresource, tracked=True), False

    async def change(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        wanted: Callable[[Obj], Obj],
        options: Options,
        subresource: str = "",
        tracked: bool = False,
        internal: bool = False,
    ) -> Obj:
        """Bring an object from what it is to ``wanted(old)``; the one way in which objects change.

        ``tracked``: the managed fields are right already. ``internal``: the server's own bookkeeping, not asked of
        the admit hook.
        """
        if not internal:
            self.check_writable(resource)
        key = key_of(resource, namespace, name)
        for _ in range(_ATTEMPTS):
            old = self.get(resource, namespace, name)
            raw = wanted(old)
            asked = version_of(raw)
            if asked and asked != version_of(old):
                raise modified(resource.plural, resource.group, name)
            new = self._merged(resource, raw, old, subresource)
            if not tracked:
                new = ssa.track_update(resource, old, new, options.manager, subresource)
            problems = [*check_metadata(resource, new), *check_update(resource, new, old)]
            if not subresource and not internal:
                new = self._admitted("UPDATE", resource, new, old, options, problems)
            elif problems:
                raise invalid(resource.kind, resource.group, name, problems)
            new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
            if _same(new, old) and _entries(new) == _entries(old):
                return old
            if has_generation(resource) and _counted(new) != _counted(old):
                new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
            if options.dry_run:
                return new
            try:
                if _finished(new):
                    return await self.store.remove(key, version_of(old), new)
                return await self.store.put(key, new, version_of(old))
            except Mismatch:
                continue  # somebody was faster: look again, which also finds a version that the client fixed
            except StorageError as error:
                raise storage_failure(error) from error
        raise modified(resource.plural, resource.group, name)

    # --- rules

    @staticmethod
    def check_writable(resource: Resource) -> None:
        """Refuse a kind of which clients write no object; 405."""
        if why := why_read_only(resource):
            message = f"{resource.full_name} are read only here: {why}"
            raise StatusError(405, "MethodNotAllowed", message)

    @staticmethod
    def _checked(resource: Resource, body: Any, options: Options) -> Obj:
        obj = check_type(resource, body)
        if report := prune(resource, obj):
            if report.mistakes:
                raise bad_request(f"{resource.kind} cannot be handled: " + "; ".join(report.mistakes))
            found = report.unknown
        else:
            drop_nulls(obj)
            found = [] if resource.custom else unknown_fields(obj)
        if options.validation != "Ignore":
            if found and options.validation == "Strict":
                raise bad_request("strict decoding error: " + ", ".join(found))
            options.warnings += found
        return obj

    @staticmethod
    def _place(resource: Resource, namespace: str, obj: Obj) -> None:
        metadata = obj["metadata"]
        if not resource.namespaced:
            metadata.pop("namespace", None)
            return
        if metadata.get("namespace", namespace) != namespace:
            raise bad_request(
                f"the namespace of the provided object does not match the namespace sent on the request "
                f"({metadata['namespace']} and {namespace})"
            )
        metadata["namespace"] = namespace

    def _namespace_ready(self, resource: Resource, namespace: str, name: str) -> None:
        if not resource.namespaced:
            return
        found = self.store.get(*key_of(NAMESPACES, "", namespace))
        if found is None:
            raise not_found(NAMESPACES.plural, "", namespace)
        if found["metadata"].get("deletionTimestamp"):
            message = (
                f'{resource.full_name} "{name}" is forbidden: unable to create new content in namespace {namespace} '
                "because it is being terminated"
            )
            raise forbidden(message, resource.plural, resource.group, name)

    @staticmethod
    def _merged(resource: Resource, new: Obj, old: Obj, subresource: str) -> Obj:
        """Keep what this way of writing may not touch."""
        if subresource == "status":
            managed = new["metadata"].get("managedFields")
            metadata = {**old["metadata"], **({"managedFields": managed} if managed else {})}
            new = {**old, "metadata": metadata, **({"status": new["status"]} if "status" in new else {})}
            return clone(new)
        metadata = new["metadata"]
        given = metadata.get("uid")
        if given and given != old["metadata"]["uid"]:
            why = f"Precondition failed: UID in precondition: {given}, UID in object meta: {old['metadata']['uid']}"
            raise conflict(resource.plural, resource.group, metadata.get("name", ""), why)
        kept = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds")
        for name in (*kept, "generateName"):
            metadata.pop(name, None)
            if name in old["metadata"]:
                metadata[name] = old["metadata"][name]
        if resource.has_status and subresource != "binding":
            new.pop("status", None)
            if "status" in old:
                new["status"] = clone(old["status"])
        if resource is NAMESPACES and subresource != "finalize":
            new["spec"] = clone(old.get("spec", {}))
        on_update(resource, new, old)
        return new

    def _admitted(
        self, operation: str, resource: Resource, obj: Obj, old: Obj | None, options: Options, problems: list[Problem]
    ) -> Obj:
        """Ask the admit hook, and refuse with all that is wrong: ``problems``, the server's own, and the hook's."""
        own = [*problems, *on_write(resource, obj)]
        own += core_rules.check(resource, obj, old)
        new, found, warnings = self._admit(operation, resource, obj, old)
        options.warnings += [one for one in warnings if one not in options.warnings]
        known = {one.field for one in own}
        if problems := [*own, *(one for one in found if one.field not in known)]:
            raise invalid(resource.kind, resource.group, obj["metadata"].get("name", ""), problems)
        return new

    def admit_delete(self, resource: Resource, old: Obj, options: Options) -> None:
        """Ask the hook whether an object may be deleted."""
        _, problems, warnings = self._admit("DELETE", resource, old, old)
        options.warnings += [one for one in warnings if one not in options.warnings]
        if problems:
            raise invalid(resource.kind, resource.group, old["metadata"]["name"], list(problems))


def _entries(obj: Obj) -> list[Obj]:
    entries = obj["metadata"].get("managedFields") or []
    return [{name: value for name, value in entry.items() if name != "time"} for entry in entries]


def _counted(obj: Obj) -> Obj:
    return {name: value for name, value in obj.items() if name not in ("metadata", "status")}


def _finished(obj: Obj) -> bool:
    """Tell whether nothing holds a deleted object any more."""
    metadata = obj["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    held = obj["kind"] == "Namespace" and obj.get("spec", {}).get("finalizers")
    return not held and not metadata.get("deletionGracePeriodSeconds")
