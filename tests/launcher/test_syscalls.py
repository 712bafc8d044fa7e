"""The filter of system calls: its numbers, its program, and a real process under it."""

from __future__ import annotations

import errno
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from polyvisor.drivers.lxc.plan import FORBIDDEN
from polyvisor.launcher import syscalls
from polyvisor.launcher.syscalls import COLUMNS, FAMILIES, NUMBERS, NoFilter, filter_of
from tests.needs import need_root, unmet

HEADERS = {
    "x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
    "i386": "/usr/include/x86_64-linux-gnu/asm/unistd_32.h",
    "aarch64": "/usr/include/asm-generic/unistd.h",
}
GETPID = {"x86_64": 39, "i386": 20, "aarch64": 172, "arm": 20, "s390": 20}
# Runs under the filter: tries each call, by libc and, on x86_64, by the gate of 32-bit programs, in a child too.
TRIAL = r"""
import ctypes, json, mmap, os, sys
from polyvisor.launcher.syscalls import COLUMNS, NUMBERS, forbid
names = json.loads(sys.argv[1])
forbid(names)
libc = ctypes.CDLL(None, use_errno=True)
machine = os.uname().machine
column = COLUMNS.index({"s390x": "s390"}.get(machine, machine))
def call(number):
    return ctypes.get_errno() if libc.syscall(number, -1, 0, 0, 0, 0) < 0 else 0
said = {"native": {name: call(NUMBERS[name][column]) for name in names if NUMBERS[name][column]}}
said["allowed"] = libc.syscall({"x86_64": 39, "aarch64": 172, "s390x": 20}[machine]) == os.getpid()
if machine == "x86_64":
    said["x32"] = call(0x40000000 | 39)
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    # push rbx; mov eax, edi; xor ebx, ecx, edx; int 0x80; pop rbx; ret
    code.write(bytes.fromhex("5389f831db31c931d2cd805bc3"))
    gate = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    said["i386"] = {name: -gate(NUMBERS[name][1]) for name in names if NUMBERS[name][1]}
    said["i386 allowed"] = gate(20) == os.getpid()
reader, writer = os.pipe()
if os.fork() == 0:
    os.write(writer, bytes([call(NUMBERS["keyctl"][column])]))
    os._exit(0)
said["child"] = os.read(reader, 1)[0]
print(json.dumps(said))
"""


def run(program: bytes, mark: int, number: int) -> int:
    """Run a filter as the kernel does; return what it returns."""
    word, at = 0, 0
    steps = list(struct.iter_unpack("HBBI", program))
    while True:
        code, if_so, else_, constant = steps[at]
        if code == syscalls.LOAD:
            word = {0: number, 4: mark}[constant]
            at += 1
        elif code == syscalls.RETURN:
            return int(constant)
        else:
            holds = word == constant if code == syscalls.EQUAL else word >= constant
            at += 1 + (if_so if holds else else_)


@pytest.mark.parametrize("machine", FAMILIES)
def test_the_program_refuses_what_it_is_told_to_and_nothing_else(machine: str) -> None:
    program = filter_of(FORBIDDEN, machine)
    for mark, architecture in FAMILIES[machine]:
        column = COLUMNS.index(architecture)
        refused = {NUMBERS[name][column] for name in FORBIDDEN} - {0}
        found = {number for number in range(500) if run(program, mark, number) != syscalls.ALLOW}
        assert found == refused
        assert GETPID[architecture] not in refused
    assert run(program, 0xDEAD, 1) == syscalls.REFUSE
    assert (run(program, 0xC000003E, 0x40000001) == syscalls.REFUSE) or machine != "x86_64"


@pytest.mark.parametrize("architecture", HEADERS)
def test_the_numbers_are_the_kernels(architecture: str) -> None:
    header = Path(HEADERS[architecture])
    if not header.exists():
        unmet(f"{header} missing: install linux-libc-dev")
    there = {name: int(number) for name, number in re.findall(r"#define __NR_(\w+)\s+(\d+)", header.read_text())}
    column = COLUMNS.index(architecture)
    assert {name: there.get(name, 0) for name in NUMBERS} == {name: row[column] for name, row in NUMBERS.items()}


def test_a_process_and_its_children_are_refused_by_every_gate() -> None:
    need_root()
    names = syscalls.forbidden_here(FORBIDDEN)
    done = subprocess.run([sys.executable, "-c", TRIAL, json.dumps(names)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert set(said["native"].values()) == {errno.EPERM}
    assert said["allowed"]
    assert said["child"] == errno.EPERM
    if os.uname().machine == "x86_64":
        assert said["x32"] == errno.EPERM
        assert set(said["i386"].values()) == {errno.EPERM}
        assert said["i386 allowed"]


@pytest.mark.parametrize("unified", [False, True])
def test_rules_for_devices_are_libvirts_to_set_where_control_groups_are_unified(
    unified: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syscalls, "UNIFIED", tmp_path / "cgroup.controllers")
    if unified:
        syscalls.UNIFIED.touch()
    found = set(syscalls.forbidden_here(FORBIDDEN))
    assert set(FORBIDDEN) - found == ({"bpf"} if unified else set())
    number = NUMBERS["bpf"][COLUMNS.index("x86_64")]
    allowed = run(filter_of(found, "x86_64"), 0xC000003E, number) == syscalls.ALLOW
    assert allowed is unified


def test_a_machine_whose_numbers_are_not_known_gets_no_daemon() -> None:
    with pytest.raises(NoFilter, match="on sparc64 are not known, only on x86_64, aarch64, s390x"):
        filter_of(FORBIDDEN, "sparc64")


def test_without_the_right_it_says_so() -> None:
    """A process that is not root and may gain rights by a program cannot set it."""
    program = (
        "import os\nfrom polyvisor.launcher.syscalls import forbid, NoFilter\n"
        "os.setgroups([])\nos.setresgid(*[65534] * 3)\nos.setresuid(*[65534] * 3)\n"
        "try:\n    forbid(['keyctl'])\nexcept NoFilter as error:\n    print(error)\n"
    )
    need_root()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "takes no filter of system calls: Permission denied (errno 13)" in done.stdout, done.stderr
