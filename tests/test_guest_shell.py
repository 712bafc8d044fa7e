"""What tests of whole systems use to read a guest's console, tried without a guest."""

from __future__ import annotations

from typing import Any, cast

from tests.e2e.guest_shell import Shell


class Pieces:
    """A console that arrives a few bytes at a time."""

    def __init__(self, said: bytes, size: int) -> None:
        self._pieces = [said[at : at + size] for at in range(0, len(said), size)]

    def recv(self, timeout: float) -> bytes:
        if not self._pieces:
            raise TimeoutError(timeout)
        return self._pieces.pop(0)


def test_a_long_answer_in_small_pieces_is_read_from_its_start() -> None:
    said = b"2: eth0    inet 10.11.12.2/24 brd 10.11.12.255 scope global eth0" + b" " * 80 + b"\r\nend\r\n# "
    shell = Shell(cast(Any, Pieces(said, 7)))
    assert shell.until(rb"([^\0]*?)\r?\nend")[1].startswith(b"2: eth0")
    assert shell.until(rb"# ", seconds=1)
