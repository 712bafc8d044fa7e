"""``usbredir``: a USB device of this machine for a guest, by the program usbredirect, or a local port for another."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys

from polyvisor.cli.client import Client
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.lifecycle import subresource
from polyvisor.cli.local_client import serve
from polyvisor.cli.output import say
from polyvisor.prerequisites import not_installed

PROGRAM = "usbredirect"
ADDRESS = "127.0.0.1"
DEVICE = re.compile(r"[0-9a-fA-F]{1,4}:[0-9a-fA-F]{1,4}|[0-9]{1,3}-[0-9]{1,3}")


def command(device: str) -> tuple[str, ...]:
    """Return how to bring a device, named as usbredirect has it: vendor and product, or bus and number."""
    if not DEVICE.fullmatch(device):
        raise CliError(f"{device!r} is no USB device: VENDOR:PRODUCT or BUS-DEVICE, as lsusb tells", ExitCode.USAGE)
    if not (found := shutil.which(PROGRAM)):
        raise CliError(
            not_installed(PROGRAM),
            hint="Or join a program of your own with --no-launch.",
        )
    return (found, "--device", device, "--to", "{address}:{port}")


def redirect(client: Client, namespace: str, name: str, program: tuple[str, ...]) -> None:
    """Open a slot of a machine; run the ``program`` on it, or print the local port and wait."""
    path = subresource(namespace, "virtualmachineinstances", name, "usbredir")

    def tell(port: int) -> None:
        say(f"User can connect usbredir client at: {ADDRESS}:{port}")
        sys.stdout.flush()

    asyncio.run(serve(client, path, None, ADDRESS, 0, program, tell, "the USB slot"))
