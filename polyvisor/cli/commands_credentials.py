"""``credentials``: the commands on the SSH keys and passwords that a machine's guest is given."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from polyvisor.cli.context import Context
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.options import Machine, Namespace

if TYPE_CHECKING:
    from polyvisor.cli.client import Client

User = Annotated[str, typer.Option("-u", "--user", help="User of the guest.")]
File = Annotated[str, typer.Option("-f", "--file", help="File with the public key.")]
Value = Annotated[str, typer.Option(help="The public key itself.")]
Secret = Annotated[str, typer.Option(help="Which of the machine's Secrets; by default the first.")]
Force = Annotated[bool, typer.Option("--force", help="Change a Secret that others may use; add one while it runs.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(no_args_is_help=True, help="Change the SSH keys and passwords that a guest is given.")
    for command in (add_ssh_key, remove_ssh_key, set_password):
        group.command()(command)
    app.add_typer(group, name="credentials")


def add_ssh_key(
    ctx: typer.Context,
    name: Machine,
    user: User = "",
    file: File = "",
    value: Value = "",
    secret: Secret = "",
    create_secret: Annotated[bool, typer.Option("--create-secret", help="Make a new Secret for the key.")] = False,
    update_secret: Annotated[bool, typer.Option("--update-secret", help="Make none.")] = False,
    force: Force = False,
    namespace: Namespace = "",
) -> None:
    """Give a user of the guest a further SSH key, at once if a Secret for keys is there already."""
    from polyvisor.cli.credentials import Credentials, key_of

    key = key_of(file, value)
    client, place = _place(ctx, namespace)
    found = Credentials(client, place, name, force=force)
    found.add_key(_given(user), key, secret, create=create_secret, update=update_secret)


def remove_ssh_key(
    ctx: typer.Context,
    name: Machine,
    user: User = "",
    file: File = "",
    value: Value = "",
    secret: Secret = "",
    force: Force = False,
    namespace: Namespace = "",
) -> None:
    """Take an SSH key away from a user of the guest."""
    from polyvisor.cli.credentials import Credentials, key_of

    key = key_of(file, value)
    client, place = _place(ctx, namespace)
    Credentials(client, place, name, force=force).remove_key(_given(user), key, secret)


def set_password(
    ctx: typer.Context,
    name: Machine,
    user: User = "",
    password: Annotated[
        str, typer.Option("-p", "--password", help="By default it is asked for, or read from standard input.")
    ] = "",
    secret: Secret = "",
    force: Force = False,
    namespace: Namespace = "",
) -> None:
    """Set the password of a user of the guest."""
    from polyvisor.cli.credentials import Credentials

    _given(user)
    client, place = _place(ctx, namespace)
    found = Credentials(client, place, name, force=force)
    if not password:
        terminal = sys.stdin.isatty()
        password = typer.prompt("Password", hide_input=True) if terminal else sys.stdin.readline().rstrip("\n")
    if not password:
        raise CliError("the password must not be empty", ExitCode.USAGE)
    found.set_password(user, password, secret)


def _given(user: str) -> str:
    if not user:
        raise CliError("whose? Give --user", ExitCode.USAGE)
    return user


def _place(ctx: typer.Context, namespace: str) -> tuple[Client, str]:
    assert isinstance(ctx.obj, Context)
    session = ctx.obj.connect()
    return session.client, namespace or session.namespace
