"""``python -m polyvisor.launcher.waiting PATH``: write a program that waits for SIGTERM and does nothing else.

The container of an image lives as long as its machine and needs a program for that, which every machine has a copy of:
a shell of busybox took each of them 1.6 MiB, since its pages are shared with no other copy. This one is a few machine
instructions, in a file of the Executable and Linkable Format (elf(5)) whose one segment is all of it. What isn't
obvious: the first process of a container is sent no signal that it has no handler for, except one that it blocks; so
the program blocks SIGTERM and then waits for it (rt_sigtimedwait(2)).
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

BASE = 0x400000
HEADERS = 64 + 56
"""Bytes of the file's header and of that of its segment; the instructions follow."""
SIGTERM_MASK = struct.pack("<Q", 1 << 14)
"""The set of signals that has SIGTERM alone; it follows the instructions."""

X86_64 = bytes.fromhex(
    "b80e000000"  # mov eax, 14           rt_sigprocmask(
    "31ff"  # xor edi, edi                    SIG_BLOCK,
    "488d3530000000"  # lea rsi, [rip+48]     the mask,
    "31d2"  # xor edx, edx                    nowhere,
    "41ba08000000"  # mov r10d, 8             8)
    "0f05"  # syscall
    "b880000000"  # again: mov eax, 128   rt_sigtimedwait(
    "488d3d1a000000"  # lea rdi, [rip+26]     the mask,
    "31f6"  # xor esi, esi                    nowhere,
    "31d2"  # xor edx, edx                    for ever,
    "41ba08000000"  # mov r10d, 8             8)
    "0f05"  # syscall
    "83f80f"  # cmp eax, 15
    "75e3"  # jne again                   interrupted, as by being stopped and continued
    "b83c000000"  # mov eax, 60           exit(
    "31ff"  # xor edi, edi                    0)
    "0f05"  # syscall
)
AARCH64 = struct.pack(
    "<18I",
    0xD28010E8,  # mov x8, #135           rt_sigprocmask(
    0xD2800000,  # mov x0, #0                 SIG_BLOCK,
    0x10000201,  # adr x1, mask               the mask,
    0xD2800002,  # mov x2, #0                 nowhere,
    0xD2800103,  # mov x3, #8                 8)
    0xD4000001,  # svc #0
    0xD2801128,  # again: mov x8, #137    rt_sigtimedwait(
    0x10000160,  # adr x0, mask               the mask,
    0xD2800001,  # mov x1, #0                 nowhere,
    0xD2800002,  # mov x2, #0                 for ever,
    0xD2800103,  # mov x3, #8                 8)
    0xD4000001,  # svc #0
    0x71003C1F,  # cmp w0, #15
    0x54FFFF21,  # b.ne again
    0xD2800BA8,  # mov x8, #93            exit(
    0xD2800000,  # mov x0, #0                 0)
    0xD4000001,  # svc #0
    0xD503201F,  # nop, so that the mask is aligned
)
MACHINES = {"x86_64": (62, X86_64), "aarch64": (183, AARCH64)}
"""Machine -> its number in elf(5), and the instructions."""


def program(machine: str) -> bytes:
    """Return the program for a machine, as ``uname -m`` calls it; raise KeyError for one that it is not written for."""
    number, code = MACHINES[machine]
    size = HEADERS + len(code) + len(SIGTERM_MASK)
    identity = b"\x7fELF\x02\x01\x01" + bytes(9)  # of 64 bits, little-endian
    header = struct.pack("<HHIQQQIHHHHHH", 2, number, 1, BASE + HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, BASE, BASE, size, size, 0x1000)  # to be read and run
    return identity + header + segment + code + SIGTERM_MASK


def main(arguments: list[str]) -> int:
    """Write the program for this machine; return the exit code."""
    machine = os.uname().machine
    if machine not in MACHINES:
        sys.stderr.write(f"waiting: the program is written for {', '.join(MACHINES)}, and this machine is {machine}\n")
        return 1
    path = Path(arguments[0])
    path.write_bytes(program(machine))
    path.chmod(0o755)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
