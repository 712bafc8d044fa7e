"""The commands on volumes: addvolume, removevolume."""

from __future__ import annotations

from typing import Annotated

import typer

from polyvisor.cli.context import Context
from polyvisor.cli.options import DryRun, Namespace

Machine = Annotated[str, typer.Argument(metavar="VM", help="Name of the machine.")]
Volume = Annotated[str, typer.Option(help="Name of the DataVolume or PersistentVolumeClaim.")]
Persist = Annotated[bool, typer.Option(help="Change the VirtualMachine too, so that it holds after a restart.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    for command in (addvolume, removevolume):
        app.command()(command)


def addvolume(
    ctx: typer.Context,
    name: Machine,
    volume_name: Volume,
    namespace: Namespace = "",
    disk_name: Annotated[str, typer.Option(help="Name of the disk; the volume's if it is not given.")] = "",
    serial: Annotated[str, typer.Option(help="Serial number of the disk; the volume's name if not given.")] = "",
    cache: Annotated[str, typer.Option(help="none, writethrough or writeback.")] = "",
    disk_type: Annotated[str, typer.Option(help="disk.")] = "disk",
    bus: Annotated[str, typer.Option(help="scsi or virtio.")] = "scsi",
    persist: Persist = False,
    dry_run: DryRun = False,
) -> None:
    """Attach a volume to a running machine."""
    from polyvisor.cli.volumes import add

    disk = {disk_type: {"bus": bus}, "serial": serial or volume_name, "cache": cache, "name": disk_name}
    disk = {key: value for key, value in disk.items() if value}
    session = _context(ctx).connect()
    add(session, namespace or session.namespace, name, volume_name, disk, persist=persist, dry_run=dry_run)


def removevolume(
    ctx: typer.Context,
    name: Machine,
    volume_name: Volume,
    namespace: Namespace = "",
    persist: Persist = False,
    dry_run: DryRun = False,
) -> None:
    """Take a volume out of a running machine."""
    from polyvisor.cli.volumes import remove

    session = _context(ctx).connect()
    remove(session, namespace or session.namespace, name, volume_name, persist=persist, dry_run=dry_run)


def _context(ctx: typer.Context) -> Context:
    assert isinstance(ctx.obj, Context)
    return ctx.obj
