"""The commands on running guests: what they do, what they tell, their screen, ports and USB devices."""

from __future__ import annotations

from typing import Annotated

import typer

from polyvisor.cli.context import Context
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.options import Machine, MachineWords, Namespace, names

Identity = Annotated[str, typer.Option("-i", "--identity-file", help="Private key to log in with.")]
KnownHosts = Annotated[str, typer.Option(help="File of known host keys; by default ssh's own.")]
LoginPort = Annotated[int, typer.Option("-p", "--port", help="Port of the guest's SSH server.")]
LoginUser = Annotated[
    str, typer.Option("-l", "--username", help="User to log in as; also as USER@ before the machine.")
]
More = Annotated[
    list[str] | None, typer.Option("-t", "--local-ssh-opts", help="A further option for ssh; may be repeated.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    for command in (soft_reboot, reset, guestosinfo, fslist, userlist, vnc, usbredir, port_forward, ssh, scp, expose):
        app.command()(command)
    app.command()(permitted_devices)


def soft_reboot(ctx: typer.Context, name: Machine, namespace: Namespace = "") -> None:
    """Have a machine's guest restart itself."""
    _act(ctx, name, namespace, "softreboot")


def reset(ctx: typer.Context, name: Machine, namespace: Namespace = "") -> None:
    """Press a machine's reset button: the guest is not asked."""
    _act(ctx, name, namespace, "reset")


def guestosinfo(ctx: typer.Context, name: Machine, namespace: Namespace = "") -> None:
    """Print what the agent inside a guest says of its operating system."""
    _show(ctx, name, namespace, "guestosinfo")


def fslist(ctx: typer.Context, name: Machine, namespace: Namespace = "") -> None:
    """Print the file systems that are mounted inside a guest."""
    _show(ctx, name, namespace, "filesystemlist")


def userlist(ctx: typer.Context, name: Machine, namespace: Namespace = "") -> None:
    """Print who is logged in to a guest."""
    _show(ctx, name, namespace, "userlist")


def vnc(
    ctx: typer.Context,
    words: Annotated[list[str], typer.Argument(metavar="NAME | screenshot NAME", autocompletion=names)],
    namespace: Namespace = "",
    address: Annotated[str, typer.Option(help="Local address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Local port to listen on; by default a free one.")] = 0,
    proxy_only: Annotated[bool, typer.Option("--proxy-only", help="Start no viewer, print the port as JSON.")] = False,
    preserve_session: Annotated[
        bool, typer.Option("--preserve-session", help="Fail rather than end another's session.")
    ] = False,
    vnc_path: Annotated[str, typer.Option(help="Program to use as viewer.")] = "",
    vnc_type: Annotated[str, typer.Option(help="Type of viewer: remote-viewer, tiger, real, ...")] = "",
    file: Annotated[str, typer.Option("-f", "--file", help="screenshot: the file to write; - for output.")] = "",
    move_cursor: Annotated[
        bool, typer.Option("-m", "--move-cursor", help="screenshot: move the pointer to wake the screen.")
    ] = False,
) -> None:
    """Show a machine's screen in a viewer, or write a picture of it (vnc screenshot NAME -f FILE)."""
    from polyvisor.cli.lifecycle import machine_name
    from polyvisor.cli.vnc import screenshot, show, viewer

    picture = len(words) == 2 and words[0] == "screenshot"
    if len(words) != (2 if picture else 1):
        raise CliError("vnc takes NAME, or screenshot NAME", ExitCode.USAGE)
    session = _context(ctx).connect()
    name, where = machine_name(words[-1]), namespace or session.namespace
    if picture:
        screenshot(session.client, where, name, file, move_cursor=move_cursor)
        return
    command = () if proxy_only else viewer(vnc_type, vnc_path)
    show(session.client, where, name, address, port, command, preserve_session)


def usbredir(
    ctx: typer.Context,
    words: Annotated[list[str], typer.Argument(metavar="[VENDOR:PRODUCT | BUS-DEVICE] NAME", autocompletion=names)],
    namespace: Namespace = "",
    no_launch: Annotated[bool, typer.Option("--no-launch", help="Start no program, print a local port.")] = False,
) -> None:
    """Give a USB device of this machine to a guest, until interrupted."""
    from polyvisor.cli.lifecycle import machine_name
    from polyvisor.cli.usbredir import command, redirect

    if len(words) != 2 and not (no_launch and len(words) == 1):
        raise CliError("usbredir takes a device and NAME; with --no-launch NAME alone will do", ExitCode.USAGE)
    session = _context(ctx).connect()
    program = () if no_launch else command(words[0])
    redirect(session.client, namespace or session.namespace, machine_name(words[-1]), program)


def port_forward(
    ctx: typer.Context,
    target: Annotated[str, typer.Argument(metavar="TYPE/NAME", autocompletion=names)],
    ports: Annotated[list[str], typer.Argument(metavar="[PROTOCOL/]LOCAL[:REMOTE]...")],
    namespace: Namespace = "",
    address: Annotated[str, typer.Option(help="Local address to listen on.")] = "127.0.0.1",
    stdio: Annotated[bool, typer.Option("--stdio", help="Join with standard input and output instead.")] = False,
) -> None:
    """Forward local ports to a machine, until interrupted."""
    from polyvisor.cli.forward import Target, forward, parse_port, parse_target

    session = _context(ctx).connect()
    plural, name, where = parse_target(target, namespace or session.namespace)
    forward(Target(session.client, plural, name, where), [parse_port(each) for each in ports], address, stdio=stdio)


def ssh(
    ctx: typer.Context,
    target: Annotated[str, typer.Argument(metavar="[USER@]TYPE/NAME")],
    namespace: Namespace = "",
    command: Annotated[str, typer.Option("-c", "--command", help="Run this instead of a shell.")] = "",
    username: LoginUser = "",
    port: LoginPort = 22,
    identity_file: Identity = "",
    known_hosts: KnownHosts = "",
    local_ssh_opts: More = None,
) -> None:
    """Log in to a machine with this machine's ssh."""
    from polyvisor.cli.shell import ssh as act

    act(
        _context(ctx),
        _namespace(ctx, namespace),
        target,
        command,
        user=username,
        port=port,
        identity=identity_file,
        known_hosts=known_hosts,
        more=local_ssh_opts or [],
    )


def scp(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SOURCE")],
    target: Annotated[str, typer.Argument(metavar="TARGET")],
    namespace: Namespace = "",
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="Copy folders with all in them.")] = False,
    preserve: Annotated[bool, typer.Option("--preserve", help="Keep times and modes.")] = False,
    username: LoginUser = "",
    port: LoginPort = 22,
    identity_file: Identity = "",
    known_hosts: KnownHosts = "",
    local_ssh_opts: More = None,
) -> None:
    """Copy files to or from a machine: [USER@]TYPE/NAME:PATH."""
    from polyvisor.cli.shell import scp as act

    act(
        _context(ctx),
        _namespace(ctx, namespace),
        source,
        target,
        user=username,
        port=port,
        identity=identity_file,
        known_hosts=known_hosts,
        recursive=recursive,
        preserve=preserve,
        more=local_ssh_opts or [],
    )


def expose(
    ctx: typer.Context,
    words: MachineWords,
    name: Annotated[str, typer.Option(help="Name of the Service.")],
    namespace: Namespace = "",
    port: Annotated[int, typer.Option(help="Port of the Service; by default the ports that the machine declares.")] = 0,
    port_name: Annotated[str, typer.Option(help="Name of the port.")] = "",
    protocol: Annotated[str, typer.Option(help="TCP, UDP or SCTP.")] = "TCP",
    target_port: Annotated[str, typer.Option(help="Port in the guest; by default the Service's.")] = "",
    type: Annotated[str, typer.Option(help="ClusterIP, NodePort or LoadBalancer.")] = "ClusterIP",
    cluster_ip: Annotated[str, typer.Option(help="Address of the Service in the cluster, or None.")] = "",
    external_ip: Annotated[str, typer.Option(help="A further address of the Service.")] = "",
    ip_family: Annotated[str, typer.Option(help="IPv4, IPv6, or both with a comma.")] = "",
    ip_family_policy: Annotated[str, typer.Option(help="SingleStack, PreferDualStack or RequireDualStack.")] = "",
) -> None:
    """Make a Service for a machine's ports."""
    from polyvisor.cli.guests import expose as act

    session = _context(ctx).connect()
    act(
        session,
        namespace or session.namespace,
        words,
        name=name,
        port=port,
        port_name=port_name,
        protocol=protocol,
        target_port=target_port,
        kind=type,
        cluster_ip=cluster_ip,
        external_ip=external_ip,
        ip_family=ip_family,
        ip_family_policy=ip_family_policy,
    )


def permitted_devices(ctx: typer.Context) -> None:
    """List the devices of nodes that machines may have."""
    from polyvisor.cli.guests import permitted_devices as act

    act(_context(ctx).connect())


def _act(ctx: typer.Context, name: str, namespace: str, action: str) -> None:
    from polyvisor.cli.guests import act
    from polyvisor.cli.lifecycle import machine_name

    session = _context(ctx).connect()
    act(session, namespace or session.namespace, machine_name(name), action)


def _show(ctx: typer.Context, name: str, namespace: str, question: str) -> None:
    from polyvisor.cli.guests import show
    from polyvisor.cli.lifecycle import machine_name

    session = _context(ctx).connect()
    show(session, namespace or session.namespace, machine_name(name), question)


def _namespace(ctx: typer.Context, namespace: str) -> str:
    return namespace or _context(ctx).connect().namespace


def _context(ctx: typer.Context) -> Context:
    found = ctx.obj
    assert isinstance(found, Context)
    return found
