"""All devices but disks and interfaces, read from a domain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvisor.adoption.draft import SPEC, Draft, free, label
from polyvisor.adoption.values import Outcome
from polyvisor.api import Obj
from polyvisor.domain.devices import METRICS_CHANNEL

if TYPE_CHECKING:
    from lxml.etree import _Element

WATCHDOGS = ("i6300esb", "diag288")
ACTIONS = ("poweroff", "reset", "shutdown")
SOUNDS = ("ich9", "ac97")
PANICS = ("isa", "pvpanic")
SCREEN = "vga"
TRANSITIONAL = "virtio-transitional"
TERMINALS = ("pty", "nmdm")
CONSOLE = f"{SPEC}.domain.devices.autoattachSerialConsole"


def read_board(draft: Draft) -> None:
    """Read console, screen, inputs, sound, TPM, watchdog, random numbers, balloon, panic, vsock and USB slots."""
    board = draft.domain.find("devices")
    if board is None:
        return
    devices = draft.devices
    if board.find("console") is None and board.find("serial") is None:
        devices["autoattachSerialConsole"] = False
    _serial(draft, board)
    _screen(draft, board)
    _inputs(draft, board)
    sound = next((one for one in board.iterfind("sound") if one.get("model") in SOUNDS), None)
    if sound is not None:
        devices["sound"] = {"name": _named(sound, "ua-sound_", "sound"), "model": sound.get("model")}
    _tpm(draft, board)
    watchdog = next((one for one in board.iterfind("watchdog") if one.get("model") in WATCHDOGS), None)
    if watchdog is not None:
        action = watchdog.get("action", "reset")
        inner = {"action": action} if action in ACTIONS else {}
        devices["watchdog"] = {"name": _named(watchdog, "ua-watchdog_", "watchdog"), str(watchdog.get("model")): inner}
    if any(one.get("model") in ("virtio", TRANSITIONAL) for one in board.iterfind("rng")):
        devices["rng"] = {}
    if any(TRANSITIONAL in (one.get("model"), one.get("type")) for one in board.iter("disk", "rng", "model")):
        devices["useVirtioTransitional"] = True
    if channel_of(board, METRICS_CHANNEL) is not None:
        devices["downwardMetrics"] = {}
    balloon = board.find("memballoon")
    if balloon is not None and balloon.get("model") == "none":
        devices["autoattachMemBalloon"] = False
    panics = [{"model": one.get("model")} if one.get("model") else {} for one in board.iterfind("panic")]
    if panics:
        devices["panicDevices"] = panics
    vsock = board.find("vsock")
    if vsock is not None:
        devices["autoattachVSOCK"] = True
        draft.settle_all(vsock, Outcome.KEPT, f"{SPEC}.domain.devices.autoattachVSOCK; with a new number")
    if board.find("redirdev[@bus='usb']") is not None:
        devices["clientPassthrough"] = {}
    for device in board.iterfind("hostdev"):
        why = "a device of the host is given by the name of a resource, which the cluster defines (hostDevices)"
        draft.settle_all(device, Outcome.BESIDE, why)


def _named(element: _Element, prefix: str, otherwise: str) -> str:
    alias = element.find("alias")
    given = alias.get("name", "") if alias is not None else ""
    name = given.removeprefix(prefix)
    return name if given.startswith(prefix) and free(name) else otherwise


def _serial(draft: Draft, board: _Element) -> None:
    """Take the first serial port for the machine's console; the API has no second."""
    for place, port in enumerate(board.iterfind("serial")):
        kind = port.get("type", "")
        if place:
            draft.leave_out(port, "a machine has one serial port")
        elif kind in TERMINALS:
            draft.settle(port, "type", Outcome.KEPT, CONSOLE)
        else:
            draft.settle_all(port, Outcome.CHANGED, f"becomes the console that `polyvisor console` joins, not {kind}")


def _screen(draft: Draft, board: _Element) -> None:
    model = board.find("video/model")
    kind = model.get("type", "") if model is not None else ""
    if board.find("graphics") is None and kind in ("", "none"):
        draft.devices["autoattachGraphicsDevice"] = False
        return
    draft.devices["autoattachGraphicsDevice"] = True
    if kind not in ("", "none", SCREEN):
        draft.devices["video"] = {"type": kind}
    for graphics in board.iterfind("graphics"):
        text = "the screen is shown by `polyvisor vnc`, which needs no address and no password"
        if not draft.ours:
            draft.settle_all(graphics, Outcome.CHANGED, text)


def _inputs(draft: Draft, board: _Element) -> None:
    found: list[Obj] = []
    for element in board.iterfind("input"):
        bus = element.get("bus", "usb")
        if element.get("type") == "tablet" and bus in ("usb", "virtio"):
            name = _named(element, "ua-input_", label("tablet", {one["name"] for one in found}))
            found.append({"name": name, "type": "tablet", "bus": bus})
        elif element.get("bus") == "ps2":
            draft.settle_all(element, Outcome.CHOSEN, "part of every machine that has a screen")
    if found:
        draft.devices["inputs"] = found


def _tpm(draft: Draft, board: _Element) -> None:
    element = board.find("tpm")
    backend = element.find("backend") if element is not None else None
    if element is None or backend is None:
        return
    if backend.get("type") != "emulator" or backend.get("version", "2.0") != "2.0":
        draft.settle_all(element, Outcome.BESIDE, "a machine's TPM is an emulated one of version 2.0")
        return
    keeps = backend.get("persistent_state") == "yes" or not draft.ours
    draft.devices["tpm"] = {"persistent": True} if keeps else {}
    if not draft.ours:
        text = "the host keeps this TPM's state; the machine begins with an empty one"
        draft.settle(backend, "type", Outcome.CHANGED, text)


def channel_of(board: _Element, name: str) -> _Element | None:
    """Return the channel that has a name in the guest."""
    return board.find(f"channel/target[@name='{name}']/..")
