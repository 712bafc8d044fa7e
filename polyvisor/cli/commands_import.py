"""``import``: machines made of libvirt's domain XML."""

from __future__ import annotations

from typing import Annotated

import typer

from polyvisor.cli.context import Context
from polyvisor.cli.options import Namespace
from polyvisor.cli.output import Output

Many = list[str] | None


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("import")(import_domains)


def import_domains(
    ctx: typer.Context,
    files: Annotated[
        list[str] | None, typer.Argument(metavar="FILE...", help="XML of libvirt domains, or - for standard input.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the machine; by default made of the domain's.")] = "",
    namespace: Namespace = "",
    driver: Annotated[str, typer.Option(help="Hypervisor driver; by default found by the domain's type.")] = "",
    storage: Annotated[
        Many,
        typer.Option(metavar="CLASS=POOL[:FOLDER]", help="StorageClass of a libvirt pool; may be repeated."),
    ] = None,
    network: Annotated[
        Many, typer.Option(metavar="NAME=NETWORK", help="pod or a Multus network, for a network of the host.")
    ] = None,
    endpoint: Annotated[str, typer.Option(help="HypervisorEndpoint of the host that has the disks.")] = "",
    kernel_image: Annotated[str, typer.Option(help="Container image with the domain's kernel and initrd.")] = "",
    output: Annotated[
        Output | None, typer.Option("-o", "--output", help="Format of the manifests; wide reports every setting.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the manifests, create nothing; needs no cluster.")
    ] = False,
) -> None:
    """Create virtual machines from libvirt's domain XML, and report what became of each setting.

    The machines are created halted, with a volume and a claim for each disk. Exit code 3: one cannot be created.
    """
    from polyvisor.cli.importing import Wanted
    from polyvisor.cli.importing import import_domains as act

    context = ctx.obj
    assert isinstance(context, Context)
    wanted = Wanted(name, namespace, driver, endpoint, kernel_image, tuple(storage or ()), tuple(network or ()))
    act(context, files or [], wanted, output, dry_run)
