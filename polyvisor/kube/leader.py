"""Leader election by a Lease: of several equal processes one works, and the others stand by.

A leader counts from before it asked for its last renewal, by its own monotonic clock, and stops working well before
others may take the Lease. Those watch it, and measure from when *they* saw it change, so clocks need not agree. Work
that is told to stop is cancelled at once; a leader that leaves in order gives the Lease away, so that nobody has to
wait.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from polyvisor.api.resources import LEASES
from polyvisor.api.times import micro_stamp
from polyvisor.kube.client import KubeClient
from polyvisor.kube.errors import ApiError
from polyvisor.kube.tasks import end_task

Obj = dict[str, Any]
log = logging.getLogger("polyvisor.leader")


class LostLease(Exception):
    """The Lease could not be renewed in time, or somebody else has it."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: how long a Lease holds, when its holder gives up, and how often it is renewed. client-go's values."""

    lease: float = 15.0
    renew: float = 10.0
    retry: float = 2.0


def identity() -> str:
    """Return a name for this process that no other has: its Pod's, as a Pod runs one such process at a time."""
    return os.environ.get("POD_NAME") or f"{socket.gethostname()}_{secrets.token_hex(4)}"


class LeaderElection:
    """A candidate for one Lease."""

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        name: str,
        *,
        me: str = "",
        timing: Timing | None = None,
        changed: Callable[[bool], None] = lambda _: None,
        prepare: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        """``prepare`` is done once before another's Lease is taken: while it is held there is no time to lose."""
        self._client = client
        self._namespace = namespace
        self._name = name
        self.me = me or identity()
        self._timing = timing or Timing()
        self._changed = changed
        self._prepare = prepare
        self._seen = ("", "")
        self._free_at = 0.0
        """By the loop's clock, when the Lease may be taken if nothing more is heard of it."""
        self._version = ""
        self._mine: Obj | None = None
        """The Lease as it was written last, if that is known."""
        self._renewed = 0.0
        self.leading = False

    @property
    def certain(self) -> bool:
        """Whether the Lease is ours without doubt at this moment, by our own clock, however long we were held up."""
        return self.leading and self._now() < self._renewed + self._timing.renew

    async def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Wait to be the leader, then work until the work ends or the Lease is lost (:class:`LostLease`)."""
        await self.acquire()
        working = asyncio.create_task(work(), name="leading")
        renewing = asyncio.create_task(self._keep(), name="lease")
        try:
            await asyncio.wait([working, renewing], return_when=asyncio.FIRST_COMPLETED)
            if renewing.done():
                await end_task(working)
                renewing.result()
            working.result()
        finally:
            await end_task(working)
            await end_task(renewing)
            await self._leave()

    async def acquire(self) -> None:
        """Wait until the Lease is ours."""
        told = ""
        while True:
            began = self._now()
            try:
                holder = await self._try()
                if holder == self.me:
                    self._renewed = began
                    self._lead(True)
                    return
                if not holder:
                    continue  # that took a while: what is counted from now on begins with another try
                if holder != told:
                    told = holder
                    log.info("standing by: %s leads", holder)
                free = await self._stand_by()
            except ApiError as error:
                log.log(logging.DEBUG if error.conflict else logging.WARNING, "lease %s: %s", self._name, error)
                free = error.conflict  # somebody was faster, and will be seen to have it
            if not free:  # a watch that breaks off each time must not make a busy loop
                await asyncio.sleep(max(0.0, began + self._timing.retry - self._now()))

    async def _stand_by(self) -> bool:
        """Follow the Lease until it may be taken; false if the watch ended before.

        A watch that has gone silent is no danger: the Lease is read once more before it is taken.
        """
        stream = self._client.watch(
            LEASES,
            self._namespace,
            resource_version=self._version,
            field_selector=f"metadata.name={self._name}",
        )
        try:
            async with asyncio.timeout_at(self._free_at) as deadline, aclosing(stream) as events:
                async for event in events:
                    if event.type == "BOOKMARK":
                        continue
                    if event.type == "DELETED":
                        return True
                    self._look_at(event.object)
                    if not self._held():
                        return True
                    deadline.reschedule(self._free_at)
        except TimeoutError:
            return True
        return False

    async def _keep(self) -> None:
        """Renew for ever; raise when that has not worked for too long."""
        while True:
            await asyncio.sleep(self._timing.retry)
            began = self._now()
            try:
                async with asyncio.timeout_at(self._renewed + self._timing.renew):
                    holder = await self._renew()
            except TimeoutError:
                self._lose(f"could not be renewed within {self._timing.renew:g} s")
            except ApiError as error:
                log.warning("lease %s: %s", self._name, error)
                if self._now() - self._renewed >= self._timing.renew:
                    self._lose(str(error))
            else:
                if holder != self.me:
                    self._lose(f"{holder} has it")
                self._renewed = began

    def _lose(self, why: str) -> None:
        self._lead(False)
        raise LostLease(f"lease {self._namespace}/{self._name} was lost: {why}")

    def _lead(self, leading: bool) -> None:
        if leading != self.leading:
            self.leading = leading
            log.info("%s leads" if leading else "%s leads no more", self.me)
            self._changed(leading)

    async def _try(self) -> str:
        """Take or renew the Lease if that may be; return who holds it then, or "" if the work was made ready first."""
        try:
            lease = await self._client.get(LEASES, self._name, self._namespace)
        except ApiError as error:
            if not error.not_found:
                raise
            # nobody has led yet, so no work waits: one of several replicas makes ready, which takes much memory
            self._mine = made = await self._client.create(LEASES, self._made())
            if await self._prepared():
                await self._hold(made)  # much of its time may be over, and another may have it
            return self.me
        self._look_at(lease)
        spec = lease.get("spec") or {}
        holder = str(spec.get("holderIdentity") or "")
        if holder != self.me and (self._held() or self.leading):
            return holder or "nobody"
        if await self._prepared():
            return ""
        await self._hold(lease)
        return self.me

    async def _prepared(self) -> bool:
        """Make ready for the work, the first time; true if it was done now, so that the Lease has to be read again."""
        prepare, self._prepare = self._prepare, None
        if prepare is not None:
            await prepare()
        return prepare is not None

    async def _renew(self) -> str:
        """Renew the Lease as it was written last, without reading it; read it if somebody has changed it since."""
        lease, self._mine = self._mine, None
        if lease is not None:
            try:
                await self._hold(lease)
            except ApiError as error:
                if not (error.conflict or error.not_found):
                    raise
            else:
                return self.me
        return await self._try()

    async def _hold(self, lease: Obj) -> None:
        """Write our name and the time into a Lease that is still as it was read."""
        spec = lease.get("spec") or {}
        ours = spec.get("holderIdentity") == self.me
        new = {**spec, **self._spec(), "leaseTransitions": int(spec.get("leaseTransitions") or 0) + (not ours)}
        if ours:
            new["acquireTime"] = spec.get("acquireTime") or new["acquireTime"]
        self._mine = await self._client.update(LEASES, {**lease, "spec": new})

    def _look_at(self, lease: Obj) -> None:
        """Note what a Lease says, and from when on it may be taken if it says nothing else until then."""
        spec = lease.get("spec") or {}
        holder = str(spec.get("holderIdentity") or "")
        said = (holder, f"{spec.get('renewTime')} {spec.get('leaseTransitions')}")
        self._version = str(lease["metadata"].get("resourceVersion") or "")
        if said != self._seen:
            self._seen = said
            seconds = float(spec.get("leaseDurationSeconds") or self._timing.lease)
            held = holder not in ("", self.me)
            self._free_at = self._now() + (max(seconds, self._timing.lease) if held else 0.0)

    def _held(self) -> bool:
        """Whether somebody has the Lease, as far as is seen from here."""
        return self._now() < self._free_at

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def _leave(self) -> None:
        """Give the Lease away if it is ours still."""
        if not self.leading:
            return
        self._lead(False)
        try:
            async with asyncio.timeout(self._timing.renew):
                while True:
                    if await self._give_away():
                        return
                    await asyncio.sleep(self._timing.retry)
        except (ApiError, TimeoutError) as error:
            said = str(error) or "the API server does not answer"
            log.info("lease %s was not given away: %s", self._name, said)

    async def _give_away(self) -> bool:
        """Return false if the Lease changed in between, as by a renewal of ours that was cut off on its way."""
        lease = await self._client.get(LEASES, self._name, self._namespace)
        spec = lease.get("spec") or {}
        if spec.get("holderIdentity") != self.me:
            return True
        given = {**spec, "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": micro_stamp()}
        try:
            await self._client.update(LEASES, {**lease, "spec": given})
        except ApiError as error:
            if not error.conflict:
                raise
            return False
        return True

    def _made(self) -> Obj:
        metadata = {"name": self._name, "namespace": self._namespace}
        spec = {**self._spec(), "leaseTransitions": 0}
        return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}

    def _spec(self) -> Obj:
        return {
            "holderIdentity": self.me,
            "leaseDurationSeconds": max(1, round(self._timing.lease)),
            "acquireTime": micro_stamp(),
            "renewTime": micro_stamp(),
        }
