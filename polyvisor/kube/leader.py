"""Leader election by a Lease: of several equal processes one works, and the others stand by.

A leader counts from before it asked for its last renewal, by its own monotonic clock, and stops working well before
others may take the Lease. Those measure from when *they* saw the Lease change, so clocks need not agree. Work that is
told to stop is cancelled at once; a leader that leaves in order gives the Lease away, so that nobody has to wait.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from polyvisor.api.resources import LEASES
from polyvisor.kube.client import KubeClient
from polyvisor.kube.errors import ApiError
from polyvisor.kube.tasks import end_task

Obj = dict[str, Any]
log = logging.getLogger("polyvisor.leader")


class LostLease(Exception):
    """The Lease could not be renewed in time, or somebody else has it."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: how long a Lease holds, when its holder gives up, and how often it is looked at. client-go's values."""

    lease: float = 15.0
    renew: float = 10.0
    retry: float = 2.0


def identity() -> str:
    """Return a name for this process that no other has."""
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}_{secrets.token_hex(4)}"


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
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self.me = me or identity()
        self._timing = timing or Timing()
        self._changed = changed
        self._seen: tuple[str, str, float] = ("", "", 0.0)
        self._renewed = 0.0
        self.leading = False

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
            began = time.monotonic()
            try:
                holder = await self._try()
            except ApiError as error:
                log.log(logging.DEBUG if error.conflict else logging.WARNING, "lease %s: %s", self._name, error)
            else:
                if holder == self.me:
                    self._renewed = began
                    self._lead(True)
                    return
                if holder != told:
                    told = holder
                    log.info("standing by: %s leads", holder)
            await asyncio.sleep(self._timing.retry)

    async def _keep(self) -> None:
        """Renew for ever; raise when that has not worked for too long."""
        while True:
            await asyncio.sleep(self._timing.retry)
            left = self._renewed + self._timing.renew - time.monotonic()
            began = time.monotonic()
            try:
                async with asyncio.timeout(max(left, 0.0)):
                    holder = await self._try()
            except TimeoutError:
                self._lose(f"could not be renewed within {self._timing.renew:g} s")
            except ApiError as error:
                log.warning("lease %s: %s", self._name, error)
                if time.monotonic() - self._renewed >= self._timing.renew:
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
        """Take or renew the Lease if that may be; return who holds it after that."""
        try:
            lease = await self._client.get(LEASES, self._name, self._namespace)
        except ApiError as error:
            if not error.not_found:
                raise
            await self._client.create(LEASES, self._made())
            return self.me
        spec = lease.get("spec") or {}
        holder = str(spec.get("holderIdentity") or "")
        version = f"{spec.get('renewTime')} {spec.get('leaseTransitions')}"
        if (holder, version) != self._seen[:2]:
            self._seen = (holder, version, time.monotonic())
        seconds = float(spec.get("leaseDurationSeconds") or self._timing.lease)
        if holder and holder != self.me and time.monotonic() < self._seen[2] + max(seconds, self._timing.lease):
            return holder
        if holder != self.me and self.leading:
            return holder or "nobody"
        transitions = int(spec.get("leaseTransitions") or 0) + (holder != self.me)
        new = {**spec, **self._spec(), "leaseTransitions": transitions}
        if holder == self.me:
            new["acquireTime"] = spec.get("acquireTime") or new["acquireTime"]
        await self._client.update(LEASES, {**lease, "spec": new})
        return self.me

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
        given = {**spec, "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _micro()}
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
            "acquireTime": _micro(),
            "renewTime": _micro(),
        }


def _micro() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
