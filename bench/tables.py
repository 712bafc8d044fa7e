"""Tables, on a terminal and in Markdown, and what machine the figures are from."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

Rows = list[list[str]]


def facts() -> str:
    """Say what the machine is, without saying which."""
    kernel = ".".join(platform.release().split(".")[:2])
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    libvirt = subprocess.run(["libvirtd", "--version"], capture_output=True, text=True).stdout.split()[-1]
    qemu = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True).stdout.split()[3]
    release = Path("/etc/debian_version").read_text().strip()
    return (
        f"{os.cpu_count()} CPUs, {memory:.0f} GiB of memory; Debian {release}, Linux {kernel}, "
        f"libvirt {libvirt}, QEMU {qemu}, Python {platform.python_version()}"
    )


def today() -> str:
    """Return the day that figures are of."""
    return time.strftime("%Y-%m-%d", time.gmtime())


def print_tables(*tables: Rows) -> None:
    """Print tables."""
    console = Console(highlight=False)
    for rows in tables:
        table = Table(*rows[0], box=box.SIMPLE)
        for row in rows[1:]:
            table.add_row(*row)
        console.print(table)


def spread(values: list[float]) -> str:
    """Return the median, with the least and the most."""
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def markdown(rows: Rows) -> str:
    """Return a table in Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    return "\n".join(lines) + "\n"
