"""The commands on hosts without a kubelet: endpoint add, list, show, fence and remove; domains."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polyvisor.cli.context import Context
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.options import Format, Timeout
from polyvisor.cli.output import Output

Name = Annotated[str, typer.Argument(help="Name of the endpoint.")]
File = Path | None
Many = list[str] | None


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(no_args_is_help=True, help="Hypervisor hosts that a libvirt connection reaches.")
    for command, name in ((add, "add"), (show_all, "list"), (show, "show"), (map_to, "map"), (dumpxml, "dumpxml")):
        group.command(name)(command)
    for act in (fence, remove):
        group.command()(act)
    app.add_typer(group, name="endpoint")
    app.command()(domains)


def add(
    ctx: typer.Context,
    uri: Annotated[str, typer.Argument(help="libvirt's connection URI, such as DRIVER+ssh://root@HOST/system.")],
    name: Annotated[str, typer.Option(help="Name of the endpoint; by default the host's, or local.")] = "",
    identity: Annotated[File, typer.Option("-i", "--identity", help="Private key for SSH, without passphrase.")] = None,
    known_hosts: Annotated[File, typer.Option(help="File with the host's SSH key, as ssh-keyscan prints it.")] = None,
    ca: Annotated[File, typer.Option(help="Certificate of the authority that signed the host's.")] = None,
    cert: Annotated[File, typer.Option(help="Client certificate for TLS.")] = None,
    key: Annotated[File, typer.Option(help="Key of the client certificate.")] = None,
    username: Annotated[str, typer.Option("-u", "--username", help="User name for a connection with password.")] = "",
    password_file: Annotated[str, typer.Option(help="File with the password; - for standard input.")] = "",
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow a connection that is not encrypted.")] = False,
    observe: Annotated[bool, typer.Option("--observe", help="List domains, change nothing on the host.")] = False,
    storage: Annotated[
        list[str] | None, typer.Option(help="StorageClass and the host's pool that it is mapped to, CLASS=POOL.")
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option(help="Network of machines and the host's, NAME=NETWORK; pod is the usual one.")
    ] = None,
    timeout: Timeout = 90,
) -> None:
    """Add a host, and wait until it is connected."""
    from polyvisor.cli.endpoint_usual import given
    from polyvisor.cli.endpoints import Credentials
    from polyvisor.cli.endpoints import add as act

    if (cert is None) != (key is None):
        raise CliError("--cert and --key go together", ExitCode.USAGE)
    files = {"ssh-privatekey": identity, "known_hosts": known_hosts, "ca.crt": ca, "tls.crt": cert, "tls.key": key}
    credentials = Credentials({name: path for name, path in files.items() if path}, username, password_file)
    mapping = given(storage or (), network or ())
    act(_context(ctx), uri, name, credentials, insecure=insecure, observe=observe, timeout=timeout, mapping=mapping)


def show_all(ctx: typer.Context, output: Format = Output.TABLE) -> None:
    """List the endpoints."""
    from polyvisor.cli.get import get

    get(
        _context(ctx).connect(),
        ["hypervisorendpoints"],
        namespace="",
        all_namespaces=False,
        selector="",
        field_selector="",
        output=output,
        watch=False,
    )


def show(ctx: typer.Context, name: Name, output: Format = Output.TABLE) -> None:
    """Show one endpoint: its host, and each condition with what to do about it."""
    from polyvisor.cli.endpoints import show as act

    act(_context(ctx).connect(), name, output)


def map_to(
    ctx: typer.Context,
    name: Name,
    storage: Annotated[
        Many, typer.Option(metavar="CLASS=POOL", help="StorageClass of a libvirt pool of the host; may be repeated.")
    ] = None,
    network: Annotated[
        Many, typer.Option(metavar="NAME=NETWORK", help="pod, or NAMESPACE/NAME, for a network of the host.")
    ] = None,
) -> None:
    """Map StorageClasses and machines' networks to storage pools and networks of an endpoint's host."""
    from polyvisor.cli.endpoint_mapping import map_to as act

    act(_context(ctx).connect(), name, storage or (), network or ())


def dumpxml(
    ctx: typer.Context, domain: Annotated[str, typer.Argument(metavar="ENDPOINT/DOMAIN", help="Name or UUID.")]
) -> None:
    """Print a domain's XML, for `polyvisor import`; passwords are left out."""
    from polyvisor.cli.domains import dump

    dump(_context(ctx).connect(), domain)


def fence(
    ctx: typer.Context,
    name: Name,
    machine: Annotated[str, typer.Argument(metavar="[NAMESPACE/]VMI", help="The machine whose guest does not run.")],
) -> None:
    """Declare that a machine's guest on an unreachable host does not run: it may start elsewhere or be deleted."""
    from polyvisor.cli.fencing import fence as act

    act(_context(ctx).connect(), name, machine)


def remove(ctx: typer.Context, name: Name) -> None:
    """Remove an endpoint with its credentials; nothing changes on the host."""
    from polyvisor.cli.endpoints import remove as act

    act(_context(ctx).connect(), name)


def domains(
    ctx: typer.Context,
    endpoint: Annotated[str, typer.Argument(help="Name of the endpoint; by default all.")] = "",
    output: Format = Output.TABLE,
) -> None:
    """List the domains on endpoints: state, size, whose they are, and whether they can be adopted."""
    from polyvisor.cli.domains import show as act

    act(_context(ctx).connect(), endpoint, output)


def _context(ctx: typer.Context) -> Context:
    found = ctx.obj
    assert isinstance(found, Context)
    return found
