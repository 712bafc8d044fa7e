"""Control groups of version 2 that list devices: the kernel asks a program, which is made and attached here.

Version 1 has files for that; version 2 has none, and no library of Python's makes such programs. A program is a list of
comparisons, in the kernel's own instructions (``include/uapi/linux/bpf.h``), which it checks before it takes them. It
goes with its control group.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

UNIFIED = Path("/sys/fs/cgroup")
"""Where control groups of version 2 are mounted, if no others are there."""
CALLS = {"x86_64": 321, "aarch64": 280}
"""The number of the system call ``bpf``."""
PROG_LOAD, PROG_ATTACH = 5, 8
PROG_TYPE_CGROUP_DEVICE, ATTACH_DEVICE, ALLOW_MULTI = 15, 6, 2
CHAR_DEVICE, MKNOD = 2, 1
LOAD, AND, RIGHT, IF_NOT, IF_BITS, MOVE, EXIT = 0x61, 0x57, 0x77, 0x55, 0x45, 0xB7, 0x95
ATTRIBUTES = 120
"""Bytes of the call's argument, as far as it is used here."""
Rule = tuple[int, int | None]
"""Major and minor number of a character device; no minor number: all of them."""


def base() -> Path | None:
    """Return the control group of version 2 that this process is in; None if none can have groups below it."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), None)
    if own is None or ".." in own.split("/") or not (UNIFIED / "cgroup.controllers").exists():
        return None
    return UNIFIED / own


def make(group: Path, rules: Iterable[Rule]) -> None:
    """Make a control group whose processes may read and write these character devices and no others.

    Raises OSError where the kernel has no such programs, or this process may not attach one.
    """
    with suppress(FileNotFoundError):
        group.rmdir()
    group.mkdir()
    try:
        _attach(group, program(list(rules)))
    except BaseException:
        group.rmdir()
        raise


def program(rules: Sequence[Rule]) -> bytes:
    """Return the instructions: 1 for an access that a rule allows, else 0; nothing makes device nodes."""
    code = [
        _instruction(LOAD, 2, 1, 0),  # what is asked for: the kind of device, and how above it
        _instruction(LOAD, 4, 1, 4),
        _instruction(LOAD, 5, 1, 8),
        _instruction(MOVE | 0x08, 3, 2),
        _instruction(AND, 2, immediate=0xFFFF),
        _instruction(RIGHT, 3, immediate=16),
        _instruction(MOVE, 0, immediate=0),
        _instruction(IF_BITS, 3, offset=1, immediate=MKNOD),
        _instruction(0x15, 2, offset=1, immediate=CHAR_DEVICE),
        _instruction(EXIT),
    ]
    for major, minor in rules:
        allowed = [_instruction(MOVE, 0, immediate=1), _instruction(EXIT)]
        if minor is not None:
            allowed.insert(0, _instruction(IF_NOT, 5, offset=2, immediate=minor))
        code += [_instruction(IF_NOT, 4, offset=len(allowed), immediate=major), *allowed]
    return b"".join([*code, _instruction(EXIT)])


def _instruction(code: int, target: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("=BBhi", code, source << 4 | target, offset, immediate)


def _attach(group: Path, code: bytes) -> None:
    text, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"Apache-2.0")
    places = ctypes.addressof(text), ctypes.addressof(licence)
    loaded = _bpf(PROG_LOAD, struct.pack("=IIQQ", PROG_TYPE_CGROUP_DEVICE, len(code) // 8, *places), ATTACH_DEVICE)
    try:
        folder = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _bpf(PROG_ATTACH, struct.pack("=IIII", folder, loaded, ATTACH_DEVICE, ALLOW_MULTI))
        finally:
            os.close(folder)
    finally:
        os.close(loaded)  # the control group holds it


def _bpf(command: int, attributes: bytes, expected: int = 0) -> int:
    number = CALLS.get(platform.machine())
    if number is None:
        raise OSError(f"no programs for control groups are made on {platform.machine()}")
    whole = bytearray(attributes.ljust(ATTRIBUTES, b"\0"))
    struct.pack_into("=I", whole, 68, expected)  # expected_attach_type
    argument = (ctypes.c_char * ATTRIBUTES).from_buffer(whole)
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.syscall(ctypes.c_long(number), ctypes.c_int(command), argument, ctypes.c_uint(ATTRIBUTES))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
