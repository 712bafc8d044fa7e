"""``ssh`` and ``scp``: the programs of this machine, through ``port-forward --stdio`` as their way to the guest."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence

from polyvisor.cli.context import Context
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.forward import parse_target
from polyvisor.prerequisites import not_installed

SHORT = {"virtualmachines": "vm", "virtualmachineinstances": "vmi"}


def split_user(text: str) -> tuple[str, str]:
    """Return user and machine of ``[USER@]MACHINE``."""
    user, at, machine = text.rpartition("@")
    if at and not user:
        raise CliError(f"{text!r} has no user before the @", ExitCode.USAGE)
    return user, machine


def common(
    context: Context, namespace: str, machine: str, *, identity: str, known_hosts: str, more: Sequence[str]
) -> tuple[list[str], str]:
    """Return the options that both programs take, and the name that they shall know the machine by."""
    plural, name, namespace = parse_target(machine, namespace)
    way = [sys.executable, "-P", "-m", "polyvisor.cli"]
    if context.kubeconfig:
        way += ["--kubeconfig", context.kubeconfig]
    if context.context:
        way += ["--context", context.context]
    way += ["--state-dir", str(context.state.root), "port-forward", "--stdio"]
    way.append(f"{SHORT[plural]}/{name}/{namespace}")
    found = ["-o", f"ProxyCommand={shlex.join(way).replace('%', '%%')} %p"]
    host = f"{SHORT[plural]}.{name}.{namespace}"
    found += ["-o", f"HostKeyAlias={host}"]
    if known_hosts:
        found += ["-o", f"UserKnownHostsFile={known_hosts}"]
    if identity:
        found += ["-i", identity]
    return [*found, *more], host


def run(program: str, arguments: Sequence[str]) -> None:
    """Become the program."""
    found = shutil.which(program)
    if found is None:
        raise CliError(not_installed(program))
    sys.stdout.flush()
    os.execv(found, [program, *arguments])


def ssh(
    context: Context,
    namespace: str,
    where: str,
    command: str,
    *,
    user: str,
    port: int,
    identity: str,
    known_hosts: str,
    more: Sequence[str],
) -> None:
    """Log in to a machine, or run one command there."""
    named, machine = split_user(where)
    options, host = common(context, namespace, machine, identity=identity, known_hosts=known_hosts, more=more)
    user = user or named
    run("ssh", [*options, "-p", str(port), *(["-l", user] if user else []), host, *([command] if command else [])])


def scp(
    context: Context,
    namespace: str,
    source: str,
    target: str,
    *,
    user: str,
    port: int,
    identity: str,
    known_hosts: str,
    recursive: bool,
    preserve: bool,
    more: Sequence[str],
) -> None:
    """Copy files to or from a machine: one of the two is ``[USER@]TYPE/NAME[/NAMESPACE]:PATH``."""
    remote = [":" in each for each in (source, target)]
    if remote.count(True) != 1:
        raise CliError("one of the two must be on a machine: [USER@]TYPE/NAME:PATH", ExitCode.USAGE)
    where, _, path = (source if remote[0] else target).partition(":")
    named, machine = split_user(where)
    options, host = common(context, namespace, machine, identity=identity, known_hosts=known_hosts, more=more)
    user = user or named
    there = f"{user}@{host}:{path}" if user else f"{host}:{path}"
    flags = (["-r"] if recursive else []) + (["-p"] if preserve else [])
    both = [there, target] if remote[0] else [source, there]
    run("scp", [*options, "-P", str(port), *flags, "--", *both])
