"""An operator made with controller-runtime: copies of it elect a leader, which keeps machines and what is beside them.

The program is ``tests/e2e/tools/operator``. Its typed objects travel as protobuf, its machines as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Timer

import pytest

from tests.e2e.goprograms import NoGo, program
from tests.e2e.standalone import Standalone

from .conftest import Run

pytestmark = [pytest.mark.e2e, pytest.mark.proof]

SECONDS = 180.0
"""How long a copy that never says what is awaited is waited for."""
Process = subprocess.Popen[str]


@contextmanager
def copy(home: Standalone, folder: Path) -> Iterator[Process]:
    try:
        path = program("operator")
    except NoGo as error:
        pytest.fail(str(error))
    environment = {**os.environ, "KUBECONFIG": str(home.kubeconfig)}
    with (
        (folder / "log").open("w+") as log,
        subprocess.Popen([path], stdout=subprocess.PIPE, stderr=log, text=True, env=environment) as process,
    ):
        patience = Timer(SECONDS, process.kill)
        patience.start()
        try:
            yield process
        finally:
            patience.cancel()
            process.kill()


def says(process: Process, folder: Path, words: str) -> list[str]:
    """Read what a copy writes until it says some words; return the lines before."""
    assert process.stdout
    lines: list[str] = []
    for line in process.stdout:
        if words in line:
            return lines
        lines.append(line)
    pytest.fail(f"it ended before {words!r}:\n{''.join(lines[-20:])}\n{(folder / 'log').read_text()[-3000:]}")


def wish(name: str, strategy: str) -> str:
    data = {"memory": "96Mi", "runStrategy": strategy}
    metadata = {"name": name, "labels": {"vm-of": "operator"}}
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def test_one_copy_leads_and_keeps_machines(home: Standalone, kubectl: Run, tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()

    def lease() -> dict[str, str]:
        return dict(json.loads(kubectl("get", "lease", "operator", "-o", "json").stdout)["spec"])

    with ExitStack() as both:
        first = both.enter_context(copy(home, folders[0]))
        says(first, folders[0], "leading")
        second = both.enter_context(copy(home, folders[1]))
        kubectl("apply", "-f", "-", input=wish("kept", "Halted"))
        says(first, folders[0], "status of kept Stopped")
        owned = kubectl("get", "vm,svc,secret", "kept", "-o", "jsonpath={.items[*].metadata.ownerReferences[0].kind}")
        assert owned.stdout.split() == ["ConfigMap"] * 3
        assert "machine kept is created" in kubectl("get", "events").stdout
        kubectl("delete", "vm", "kept")
        says(first, folders[0], "machine kept created")  # which it watches
        before = lease()
        first.terminate()  # it gives the Lease back
        assert says(second, folders[1], "leading") == []
        assert lease()["holderIdentity"] != before["holderIdentity"]
        kubectl("delete", "configmap", "kept", "--wait=false")
        says(second, folders[1], "machine kept removed")
    kubectl("wait", "--for=delete", "vm/kept", "svc/kept", "secret/kept", "--timeout=60s")
