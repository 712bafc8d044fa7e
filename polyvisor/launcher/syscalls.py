"""A filter of system calls for what a launcher starts, for hypervisors whose daemon has none of its own.

The kernel runs the filter, a BPF program, before each call of this process and of all that it starts, and nothing can
take it off. What isn't obvious: a kernel answers the calls of several architectures, each with numbers of its own, so
the program asks for the architecture first; calls of one that is not in the table fail, and so do those of x32, which
has x86_64's mark and other numbers. A forbidden call fails with EPERM, as if its caller lacked a right.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from pathlib import Path

from polyvisor.launcher.plan import PlanError

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
"""What the program returns (include/uapi/linux/seccomp.h)."""
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
"""Instructions: load a word, compare with a constant, return one (include/uapi/linux/bpf_common.h)."""
NUMBER, ARCHITECTURE = 0, 4
"""Where in ``struct seccomp_data`` they are."""
X32 = 0x40000000
UNIFIED = Path("/sys/fs/cgroup/cgroup.controllers")
FAMILIES = {
    "x86_64": ((0xC000003E, "x86_64"), (0x40000003, "i386")),
    "aarch64": ((0xC00000B7, "aarch64"), (0x40000028, "arm")),
    "s390x": ((0x80000016, "s390"), (0x00000016, "s390")),
}
"""Machine -> marks of the architectures whose calls its kernel answers (include/uapi/linux/audit.h), and columns."""
COLUMNS = ("x86_64", "i386", "aarch64", "arm", "s390")
# From the kernel's tables: arch/x86/entry/syscalls, include/uapi/asm-generic/unistd.h, arch/arm/tools,
# arch/s390/kernel/syscalls. 0: the architecture does not have it.
NUMBERS = {
    "acct": (163, 51, 89, 51, 51),
    "add_key": (248, 286, 217, 309, 278),
    "bpf": (321, 357, 280, 386, 351),
    "delete_module": (176, 129, 106, 129, 129),
    "finit_module": (313, 350, 273, 379, 344),
    "init_module": (175, 128, 105, 128, 128),
    "io_uring_enter": (426, 426, 426, 426, 426),
    "io_uring_register": (427, 427, 427, 427, 427),
    "io_uring_setup": (425, 425, 425, 425, 425),
    "ioperm": (173, 101, 0, 0, 0),
    "iopl": (172, 110, 0, 0, 0),
    "kexec_file_load": (320, 0, 294, 401, 381),
    "kexec_load": (246, 283, 104, 347, 277),
    "keyctl": (250, 288, 219, 311, 280),
    "lookup_dcookie": (212, 253, 18, 249, 110),
    "open_by_handle_at": (304, 342, 265, 371, 336),
    "perf_event_open": (298, 336, 241, 364, 331),
    "request_key": (249, 287, 218, 310, 279),
    "swapoff": (168, 115, 225, 115, 115),
    "swapon": (167, 87, 224, 87, 87),
    "syslog": (103, 103, 116, 103, 103),
    "userfaultfd": (323, 374, 282, 388, 355),
}


class NoFilter(PlanError):
    """The filter cannot be set; the text says why."""


def forbid(names: Iterable[str]) -> None:
    """Have these calls fail from now on, here and in all that this process starts. Call before there are threads.

    Raises :class:`NoFilter`.
    """
    wanted = forbidden_here(names)
    if not wanted:
        return
    program = filter_of(wanted, os.uname().machine)
    text = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(text))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, described, 0, 0):
        number = ctypes.get_errno()
        raise NoFilter(f"the kernel takes no filter of system calls: {os.strerror(number)} (errno {number})")


def forbidden_here(names: Iterable[str]) -> list[str]:
    """Return those of the calls that this host's libvirt does without.

    Where control groups are of version 2 alone it sets rules for devices by ``bpf``, so there that one stays.
    """
    return sorted(set(names) - ({"bpf"} if UNIFIED.exists() else set()))


def filter_of(names: Iterable[str], machine: str) -> bytes:
    """Return the BPF program that refuses the calls of these names on a machine (as ``uname`` names it)."""
    if machine not in FAMILIES:
        raise NoFilter(f"the numbers of system calls on {machine} are not known, only on {', '.join(FAMILIES)}")
    wanted = [NUMBERS[name] for name in names]
    program = [_step(LOAD, ARCHITECTURE)]
    for mark, architecture in FAMILIES[machine]:
        column = COLUMNS.index(architecture)
        numbers = [row[column] for row in wanted if row[column]]
        more = [_step(AT_LEAST, X32, len(numbers) + 1)] if architecture == "x86_64" else []
        tests = [_step(EQUAL, number, len(numbers) - at) for at, number in enumerate(numbers)]
        part = [_step(LOAD, NUMBER), *more, *tests, _step(RETURN, ALLOW), _step(RETURN, REFUSE)]
        program += [_step(EQUAL, mark, 0, len(part)), *part]
    return b"".join([*program, _step(RETURN, REFUSE)])


def _step(code: int, constant: int, if_so: int = 0, else_: int = 0) -> bytes:
    """One instruction; the jumps are over as many that follow."""
    return struct.pack("HBBI", code, if_so, else_, constant)
