"""The guests of one endpoint as what asks guests elsewhere knows them: their agents, screens and figures.

A question to an agent inside a guest has a connection of its own to the launcher, so that a guest that never answers
holds up nothing else of the host.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyvisor.agent.guests import agents as guests
from polyvisor.agent.guests import guestinfo
from polyvisor.agent.guests.agent_support import unsupported
from polyvisor.agent.link.connection import LauncherError
from polyvisor.agent.link.picture import to_png
from polyvisor.agent.link.streams import Picture, Stream
from polyvisor.agent.platform.endpoint.keeper import Keeper
from polyvisor.agent.platform.endpoint.link import HostError, answer_of
from polyvisor.api import Obj
from polyvisor.api.reading import read_status

if TYPE_CHECKING:
    from polyvisor.drivers.base import Driver

MAX_PICTURE = 256 * 1024 * 1024
MAX_PIECE = 1024 * 1024
_numbers = itertools.count()


def agent_call(driver: Driver) -> str:
    """Return the function of libvirt's Python that puts a command to an agent inside the driver's guests, if any."""
    return driver.launcher(Path(os.devnull)).agent


class GuestLink:
    """One guest's agent, asked as through a launcher of the guest's own; errors are :class:`LauncherError`."""

    def __init__(self, keeper: Keeper, owner: dict[str, str], call: str) -> None:
        self._keeper, self._owner, self._call = keeper, owner, call

    async def request(self, operation: str, *, seconds: float = 0, **arguments: Any) -> Obj:
        """Put one command to the agent (``agent``, ``command``) and return its answer."""
        try:
            async with asyncio.timeout(seconds):
                asked = {**self._owner, "call": self._call, "command": arguments["command"]}
                reader, writer = await self._keeper.stream(op=operation, **asked)
                try:
                    return await answer_of(reader)
                finally:
                    writer.close()
        except TimeoutError:
            raise LauncherError(f"no answer of the guest's agent within {seconds:.0f} s", "no-answer") from None
        except HostError as error:
            raise LauncherError(str(error), error.code) from error


async def said(link: GuestLink, vmi: Obj) -> Obj:
    """Return what a guest's agent says for the status: its system, its interfaces' names, what the agent lacks.

    Addresses are left out: those that the endpoint's mapping allows come with the others that the host tells.
    """
    freeze = str(await guests.ask(link, "guest-fsfreeze-status") or "thawed")[:16]
    if freeze == "frozen":  # then it answers nothing else
        return {"freeze": freeze}
    commands = guestinfo.agent_info(await guests.ask(link, "guest-info")).get("supportedCommands")
    cards = guestinfo.interfaces(await guests.ask(link, "guest-network-get-interfaces"))
    known = {str(one.get("mac")).lower() for one in read_status(vmi).get("interfaces") or []}
    named = [{key: one[key] for key in ("interfaceName", "mac") if key in one} for one in cards]
    return {
        "freeze": freeze,
        "unsupported": unsupported(vmi, commands) if commands else None,
        "os": guestinfo.os_info(await guests.ask(link, "guest-get-osinfo")),
        "interfaces": [one for one in named if one.get("mac") in known],
    }


async def screenshot(keeper: Keeper, owner: dict[str, str]) -> Picture:
    """Return a picture of a guest's screen as PNG. Raises :class:`HostError`, :class:`LauncherError`."""
    reader, writer = await keeper.stream(op="screenshot", **owner)
    try:
        kind, picture = str((await answer_of(reader)).get("type"))[:64], bytearray()
        while size := int.from_bytes(await reader.readexactly(4), "big"):
            if size > MAX_PIECE or len(picture) + size > MAX_PICTURE:
                raise HostError("the screenshot is too large")
            picture += await reader.readexactly(size)
    except asyncio.IncompleteReadError:
        raise HostError("the screenshot was cut off", "cut") from None
    finally:
        writer.close()
    return Picture(await asyncio.to_thread(to_png, bytes(picture), kind))


async def screen(keeper: Keeper, owner: dict[str, str], *, preserve: bool) -> Stream:
    """Open a guest's screen. Raises :class:`HostError`."""
    folder = keeper.folder / f"screen-{next(_numbers)}"
    files = keeper.files(folder)
    reader, writer = await keeper.stream(op="screen", **owner, preserve=preserve, folder=str(folder), files=files)
    try:
        await answer_of(reader)
    except BaseException:
        writer.close()
        raise
    return Stream(reader, writer)
