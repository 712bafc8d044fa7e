"""The frame of a process in a cluster: its options, its log, its client, and an end in order.

SIGTERM and SIGINT cancel the work once, and it winds up; a second one does nothing more, since Kubernetes itself ends
what takes too long. Work that ends by itself ends the process with code 1 for Kubernetes to start it again, for a
process that has lost a part only looks alive.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any

from polyvisor.api import names
from polyvisor.kube.client import KubeClient
from polyvisor.kube.config import ConfigError, in_cluster
from polyvisor.kube.metrics import count_request
from polyvisor.kube.tasks import end_task
from polyvisor.process import log

logger = logging.getLogger("polyvisor.process")


class Restart(Exception):
    """The process has to be started again to go on; said as what it is, not as a failure."""


def options(name: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with what all processes take."""
    parser = argparse.ArgumentParser(prog=f"python -m polyvisor.{name}", description=description)
    parser.add_argument("--kubeconfig", default="", help="by default the Pod's service account, else $KUBECONFIG")
    parser.add_argument("--namespace", default="", help="where Polyvisor is installed; by default the Pod's own")
    parser.add_argument("--bind", default="", help="address to listen on; by default all")
    parser.add_argument("--verbose", action="store_true", help="log what only a developer wants to know")
    return parser


def client_of(found: argparse.Namespace, component: str) -> KubeClient:
    """Return a client as the options say."""
    if found.kubeconfig:
        return KubeClient.from_kubeconfig(found.kubeconfig, field_manager=component, observe=count_request)
    return KubeClient.discover(field_manager=component, observe=count_request)


def namespace_of(found: argparse.Namespace) -> str:
    """Return the namespace that Polyvisor is installed in."""
    if found.namespace:
        return str(found.namespace)
    try:
        return in_cluster().namespace
    except ConfigError:
        return os.environ.get("POD_NAMESPACE") or names.KUBEVIRT_NAMESPACE


async def load(*modules: str) -> None:
    """Load modules and all drivers beside what goes on: on a busy machine that takes many seconds."""
    for module in modules:
        await asyncio.to_thread(import_module, module)
    from polyvisor.drivers import registry

    await asyncio.to_thread(registry)
    settle()


def settle() -> None:
    """Leave what has been loaded by now out of the garbage collector's rounds: it is never given up."""
    gc.collect()
    gc.freeze()


def run(
    arguments: argparse.Namespace, work: Callable[[], Coroutine[Any, Any, None]], component: str, node: str = ""
) -> int:
    """Run ``work`` until it is told to stop; return the exit code. The log's lines name the component and its node."""
    settle()
    log.set_up(verbose=arguments.verbose, component=component, node=node or os.environ.get("NODE_NAME", ""))
    try:
        asyncio.run(_until_told(work))
    except Restart as reason:
        logger.info("the process ends to be started again: %s", reason)
        return 1
    except ConfigError as error:
        logger.error("%s", error)
        return 2
    except Exception as error:
        logger.error("the process ends: %s", _said(error), exc_info=error)
        return 1
    return 0


async def _until_told(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    working = asyncio.create_task(work(), name="work")
    stopping = asyncio.create_task(told.wait(), name="signal")
    await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
    await end_task(stopping)
    if not working.done():
        if error := await end_task(working):
            logger.warning("while stopping: %s", _said(error))
        return
    _raise_first(working.exception() or Restart("its work has ended"))


def _raise_first(error: BaseException) -> None:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    raise error


def _said(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_said(one) for one in error.exceptions)
    return str(error) or type(error).__name__
