"""A real API server over TLS in a thread of its own, without a node: what the commands talk to here."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import pytest

from polyvisor.cli.app import run
from polyvisor.kube.client import KubeClient
from polyvisor.process.serving import WebServer, context_of
from polyvisor.server.subresources import Subresources
from polyvisor.standalone import preflight
from polyvisor.standalone.apiserver import create_app
from polyvisor.standalone.apiserver.store import Store
from polyvisor.standalone.bootstrap import bootstrap
from polyvisor.standalone.identity import ensure_identity, write_kubeconfig
from polyvisor.standalone.last_logs import LastLogs
from tests.server.fakes import FakeNode


@dataclass
class Server:
    root: Path
    kubeconfig: Path
    node: FakeNode
    loop: asyncio.AbstractEventLoop


async def _serve(root: Path, started: Future[Server], stop: Future[None]) -> None:
    identity = await asyncio.to_thread(ensure_identity, root)
    node = FakeNode()
    async with Store(root / "db.sqlite").opened() as store:
        listener = preflight.listen(0, 0)
        kubeconfig = root / "kubeconfig"
        write_kubeconfig(kubeconfig, identity, listener.getsockname()[1])
        async with KubeClient.from_kubeconfig(kubeconfig) as client:
            served, last = Subresources(client, node), LastLogs(client, node)
            app = create_app(
                store, [identity.token], extra_routes=[*served.routes(), *served.pod_logs(), *last.routes()]
            )
            web = WebServer(app, listener, context_of(identity.cert, identity.key))
            await web.start()
            await bootstrap(client)
            started.set_result(Server(root, kubeconfig, node, asyncio.get_running_loop()))
            await asyncio.wrap_future(stop)
            store.end_watches()
            await web.stop()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("api")
    started: Future[Server] = Future()
    stop: Future[None] = Future()

    def main() -> None:
        try:
            asyncio.run(_serve(root, started, stop))
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
            raise

    thread = threading.Thread(target=main)
    thread.start()
    try:
        yield started.result(30)
    finally:
        stop.set_result(None)
        thread.join(30)


@dataclass
class Result:
    code: int
    out: str
    err: str


class Cli:
    """Runs commands in this process and collects what they print."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *arguments: str) -> Result:
        self._capfd.readouterr()
        code = run(arguments)
        out, err = self._capfd.readouterr()
        return Result(int(code), out, err)


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    monkeypatch.setenv("POLYVISOR_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("POLYVISOR_DEBUG", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return Cli(capfd)


@pytest.fixture
def on_server(cli: Cli, server: Server, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    return cli
