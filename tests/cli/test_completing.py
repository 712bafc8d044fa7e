"""What shells offer: in a real bash, and by the words that zsh asks with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from polyvisor.cli.client import Client
from polyvisor.kube.config import from_kubeconfig
from tests.cli.conftest import Server

PROGRAM = Path(sys.executable).with_name("polyvisor")
ASK = """\
source <({program} completion bash)
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_polyvisor_completion {program}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def machines(server: Server) -> Server:
    client = Client(from_kubeconfig(server.kubeconfig))
    spec = {"runStrategy": "Halted", "template": {"spec": {"domain": {"devices": {}, "memory": {"guest": "64Mi"}}}}}
    for name in ("tab-one", "tab-two", "other"):
        vm: dict[str, Any] = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name}}
        client.request("POST", "/apis/kubevirt.io/v1/namespaces/default/virtualmachines", vm | {"spec": spec})
    return server


def bash(server: Server, *words: str, **environment: str) -> list[str]:
    """Return what bash offers for the last of the words."""
    script = ASK.format(program=PROGRAM, words=" ".join(f"'{word}'" for word in ("polyvisor", *words)))
    known = {**os.environ, "KUBECONFIG": str(server.kubeconfig), **environment}
    done = subprocess.run(["bash", "-c", script], env=known, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("usb",), ["usbredir"]),
        (("vnc", "--prox"), ["--proxy-only"]),
        (("stop", "tab-"), ["tab-one", "tab-two"]),
        (("pause", "vm", "tab-t"), ["tab-two"]),
        (("port-forward", "vm/tab-o"), ["vm/tab-one"]),
        (("console", "-n", "elsewhere", "tab-"), []),
    ],
)
def test_bash_offers_commands_options_and_machines(
    machines: Server, words: tuple[str, ...], offered: list[str]
) -> None:
    assert bash(machines, *words) == offered


def test_without_a_server_nothing_is_offered_and_nothing_said(machines: Server, tmp_path: Path) -> None:
    assert bash(machines, "stop", "tab-", KUBECONFIG="", POLYVISOR_STATE_DIR=str(tmp_path)) == []


def test_zsh_is_told_the_same(machines: Server) -> None:
    asked = {"_POLYVISOR_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "polyvisor stop tab-o"}
    known = {**os.environ, "KUBECONFIG": str(machines.kubeconfig), **asked}
    done = subprocess.run([PROGRAM], env=known, capture_output=True, text=True, check=True, timeout=60)
    assert "tab-one" in done.stdout
    assert "tab-two" not in done.stdout
