"""An embedded API server on a free loopback port, for tests that need a real one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.routing import BaseRoute

from polyvisor.kube import Connection, KubeClient
from polyvisor.process.serving import serve
from polyvisor.standalone.apiserver import create_app
from polyvisor.standalone.apiserver.registry import Admit, admit_all
from polyvisor.standalone.apiserver.store import Store

TOKEN = "test-token"


@asynccontextmanager
async def running(
    folder: Path, admit: Admit = admit_all, extra_routes: Sequence[BaseRoute] = ()
) -> AsyncIterator[KubeClient]:
    """Serve from a database in ``folder`` and give a client of it."""
    store = Store(folder / "db.sqlite")
    async with store.opened(), serve(create_app(store, {TOKEN: "admin"}, admit, extra_routes)) as server:
        connection = Connection(f"http://127.0.0.1:{server.port}", token=TOKEN)
        async with KubeClient(connection) as client:
            yield client
