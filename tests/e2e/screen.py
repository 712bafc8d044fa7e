"""A guest's screen as someone has it who looks at it and types: a VNC viewer over the websocket, and pictures.

The viewer asks for plain pixels, which can be compared with a screenshot's one by one.
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from polyvisor.cli.client import Client
from polyvisor.cli.streams import options
from polyvisor.cli.websocket import Websocket

BASE = "/apis/subresources.kubevirt.io/v1/namespaces/default/virtualmachineinstances"
PIXEL = struct.pack(">BBBBHHHBBBxxx", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
"""32 bits a pixel, of which blue, green and red are the first three bytes."""
KEYS = {"\n": 0xFF0D}
UPDATE, COLOURS, BELL, CUT = range(4)


@dataclass(frozen=True)
class Picture:
    """A picture's rows, three bytes a pixel."""

    width: int
    height: int
    rows: tuple[bytes, ...]

    def lit(self) -> set[int]:
        """Return the rows that have more than one colour: those with something written on them."""
        return {number for number, row in enumerate(self.rows) if len({*zip(*[iter(row)] * 3, strict=True)}) > 1}

    def unlike(self, other: Picture) -> tuple[set[int], set[int]]:
        """Return the columns and the rows that differ."""
        assert (self.width, self.height) == (other.width, other.height)
        columns, rows = set(), set()
        for number, (mine, theirs) in enumerate(zip(self.rows, other.rows, strict=True)):
            if mine != theirs:
                rows.add(number)
                columns |= {x for x in range(self.width) if mine[3 * x : 3 * x + 3] != theirs[3 * x : 3 * x + 3]}
        return columns, rows


def picture(png: bytes) -> Picture:
    """Read a PNG of eight bits a colour."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height, *kind = struct.unpack(">IIBBBBB", png[16:29])
    assert kind == [8, 2, 0, 0, 0]
    body, place = b"", 8
    while place < len(png):
        (length,), name = struct.unpack(">I", png[place : place + 4]), png[place + 4 : place + 8]
        body += png[place + 8 : place + 8 + length] if name == b"IDAT" else b""
        place += 12 + length
    pixels, size = zlib.decompress(body), 1 + 3 * width
    assert len(pixels) == height * size
    rows, above = [], bytes(3 * width)
    for at in range(0, len(pixels), size):
        above = _unfiltered(pixels[at], pixels[at + 1 : at + size], above)
        rows.append(above)
    return Picture(width, height, tuple(rows))


def _unfiltered(kind: int, row: bytes, above: bytes) -> bytes:
    """Undo what a PNG's row was filtered with: each byte is stored as its distance from a guess by its neighbours."""
    if kind in (0, 2):
        return bytes((one + up) & 255 for one, up in zip(row, above, strict=True)) if kind else row
    found = bytearray(3) + bytearray(row)  # with a pixel of nothing before the first
    higher = bytes(3) + above
    for at in range(3, len(found)):
        left, up, corner = found[at - 3], higher[at], higher[at - 3]
        paeth = min((left, up, corner), key=lambda near, guess=left + up - corner: abs(guess - near))
        found[at] = (found[at] + (left, up, (left + up) // 2, paeth)[kind - 1]) & 255
    return bytes(found[3:])


def screen(client: Client, name: str, query: dict[str, str] | None = None) -> Websocket:
    """Open the stream of a guest's screen."""
    url, arguments = options(client, f"{BASE}/{name}/vnc", 20, query)
    return Websocket(url, **arguments)


class Viewer:
    """A VNC viewer that has shaken hands."""

    def __init__(self, websocket: Websocket) -> None:
        self._websocket = websocket
        self._got = b""
        assert self._read(12) == b"RFB 003.008\n"
        self._websocket.send(b"RFB 003.008\n")
        assert 1 in self._read(self._read(1)[0]), "no password: who gets here was let in before"
        self._websocket.send(b"\1")
        assert self._read(4) == b"\0\0\0\0"
        self._websocket.send(b"\1")
        self.width, self.height, _, length = struct.unpack(">HH16sI", self._read(24))
        self.name = self._read(length).decode()

    def type(self, text: str) -> None:
        """Press keys that need no other key held."""
        for letter in text:
            for down in (1, 0):
                self._websocket.send(struct.pack(">BBxxI", 4, down, KEYS.get(letter, ord(letter))))

    def look(self) -> Picture:
        """Return what is on the screen now."""
        self._websocket.send(struct.pack(">Bxxx", 0) + PIXEL + struct.pack(">BxHi", 2, 1, 0))
        self._websocket.send(struct.pack(">BBHHHH", 3, 0, 0, 0, self.width, self.height))
        canvas = [bytearray(3 * self.width) for _ in range(self.height)]
        missing = self.width * self.height
        while missing > 0:
            (kind,) = self._read(1)
            if kind == UPDATE:
                missing -= sum(self._rectangle(canvas) for _ in range(struct.unpack(">xH", self._read(3))[0]))
            elif kind == CUT:
                self._read(struct.unpack(">xxxI", self._read(7))[0])
            else:
                assert kind == BELL, kind
        return Picture(self.width, self.height, tuple(map(bytes, canvas)))

    def until(self, seen: Callable[[Picture], bool], seconds: float = 120) -> Picture:
        """Look until something is seen."""
        deadline = time.monotonic() + seconds
        while not seen(found := self.look()):
            assert time.monotonic() < deadline, f"rows that are written on: {sorted(found.lit())}"
            time.sleep(0.2)
        return found

    def _rectangle(self, canvas: list[bytearray]) -> int:
        x, y, width, height, encoding = struct.unpack(">HHHHi", self._read(12))
        assert encoding == 0
        for row in range(y, y + height):
            line = self._read(4 * width)
            for colour in range(3):
                canvas[row][3 * x + colour : 3 * (x + width) : 3] = line[2 - colour :: 4]
        return int(width * height)

    def _read(self, count: int) -> bytes:
        while len(self._got) < count:
            self._got += self._websocket.recv(timeout=60)
        data, self._got = self._got[:count], self._got[count:]
        return data
