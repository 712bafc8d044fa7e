"""The commands on volumes: addvolume, removevolume, memory-dump, image-upload."""

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
    app.command("memory-dump")(memory_dump)
    app.command("image-upload")(image_upload)


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


def memory_dump(
    ctx: typer.Context,
    action: Annotated[str, typer.Argument(metavar="get|download|remove", help="What to do.")],
    name: Machine,
    namespace: Namespace = "",
    claim_name: Annotated[
        str, typer.Option(help="PersistentVolumeClaim for the dump; default: the previous one.")
    ] = "",
    create_claim: Annotated[bool, typer.Option(help="Create the PersistentVolumeClaim in the required size.")] = False,
    storage_class: Annotated[str, typer.Option(help="Storage class of what is made.")] = "",
    access_mode: Annotated[str, typer.Option(help="Access mode of what is made.")] = "",
    output: Annotated[str, typer.Option(help="Of virtctl's download, which is not there.")] = "",
    format: Annotated[str, typer.Option(help="Likewise.")] = "",
    port_forward: Annotated[bool, typer.Option(help="Likewise.")] = False,
    local_port: Annotated[str, typer.Option(help="Likewise.")] = "",
) -> None:
    """Dump a running machine's memory into a claim, or give that claim up."""
    from polyvisor.cli import memory_dumps

    memory_dumps.may_do(action, download=bool(output or format or port_forward or local_port))
    session = _context(ctx).connect()
    place = namespace or session.namespace
    if action == "remove":
        memory_dumps.remove(session, place, name)
        return
    if create_claim:
        memory_dumps.make_claim(session, place, name, claim_name, storage_class, access_mode)
    memory_dumps.get(session, place, name, claim_name)


def image_upload(
    ctx: typer.Context,
    target: Annotated[str, typer.Argument(metavar="dv|pvc", help="What is filled.")],
    name: Annotated[str, typer.Argument(help="Its name.")],
    namespace: Namespace = "",
    image_path: Annotated[str, typer.Option(help="The image: raw, qcow2, vmdk, vdi, vhdx; also packed.")] = "",
    archive_path: Annotated[str, typer.Option(help="A tar archive, which becomes a folder.")] = "",
    size: Annotated[str, typer.Option(help="Size of what is made, such as 10Gi.")] = "",
    storage_class: Annotated[str, typer.Option(help="Storage class of what is made.")] = "",
    access_mode: Annotated[str, typer.Option(help="Access mode of what is made.")] = "",
    volume_mode: Annotated[str, typer.Option(help="Volume mode of what is made: filesystem or block.")] = "",
    no_create: Annotated[bool, typer.Option(help="Create nothing; fail if it does not exist.")] = False,
    force_bind: Annotated[bool, typer.Option(help="Do not wait for a first consumer.")] = False,
    insecure: Annotated[bool, typer.Option(help="Do not check the upload proxy's certificate.")] = False,
    uploadproxy_url: Annotated[str, typer.Option(help="Address of the upload proxy; by default the cluster's.")] = "",
    wait_secs: Annotated[int, typer.Option(help="How long to wait for the target, and for the end.")] = 300,
    retry: Annotated[int, typer.Option(help="How often to try again when the upload proxy does not answer.")] = 5,
    default_instancetype: Annotated[str, typer.Option(help="Instance type of machines made from it.")] = "",
    default_instancetype_kind: Annotated[str, typer.Option(help="Kind of that instance type.")] = "",
    default_preference: Annotated[str, typer.Option(help="Preference of machines made from it.")] = "",
    default_preference_kind: Annotated[str, typer.Option(help="Kind of that preference.")] = "",
) -> None:
    """Upload an image from this machine into a DataVolume (dv) or PersistentVolumeClaim (pvc)."""
    from pathlib import Path

    from polyvisor.api.names import default_label
    from polyvisor.cli.errors import CliError, ExitCode
    from polyvisor.cli.image_upload import Wanted, upload

    if target not in ("dv", "pvc"):
        raise CliError(f"found {target!r}, accepted: dv, pvc", ExitCode.USAGE)
    if bool(image_path) == bool(archive_path):
        raise CliError("give one of --image-path, --archive-path", ExitCode.USAGE)
    given = {
        "instancetype": default_instancetype,
        "instancetype-kind": default_instancetype_kind,
        "preference": default_preference,
        "preference-kind": default_preference_kind,
    }
    if no_create and any(given.values()):
        raise CliError("what is there keeps its labels: give --no-create or defaults, not both", ExitCode.USAGE)
    session = _context(ctx).connect()
    wanted = Wanted(
        target,
        name,
        Path(image_path or archive_path),
        archive=bool(archive_path),
        size=size,
        storage_class=storage_class,
        access_mode=access_mode,
        volume_mode=volume_mode,
        force_bind=force_bind,
        no_create=no_create,
        insecure=insecure,
        proxy=uploadproxy_url,
        wait_seconds=wait_secs,
        retries=retry,
        labels={default_label(what): value for what, value in given.items() if value},
    )
    upload(session, namespace or session.namespace, wanted)


def _context(ctx: typer.Context) -> Context:
    assert isinstance(ctx.obj, Context)
    return ctx.obj
