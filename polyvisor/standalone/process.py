"""The process behind ``polyvisor up``: one event loop that holds all parts, from the API server to the agent.

The order matters. Everything that can refuse does so before anything is made (folder, lock, libvirt, database, port);
then the API server, then the objects it must have, then those who work on them. Stopping goes the other way round, and
guests do not notice it unless a drain was asked for: launchers are processes of their own, and the next start finds
them again.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from polyvisor.standalone import preflight
from polyvisor.standalone.control import DRAIN
from polyvisor.standalone.failure import ALREADY_RUNNING, ERROR, StartError
from polyvisor.standalone.log import set_up
from polyvisor.standalone.progress import Progress
from polyvisor.standalone.state import AlreadyRunning, PidFile, StateFolder

logger = logging.getLogger(__name__)
DEFAULT_PORT = 7443


def main(arguments: Sequence[str]) -> int:
    """Run until told to stop; return the exit code."""
    options = _parse(arguments)
    state = StateFolder(Path(options.state_dir).absolute()) if options.state_dir else StateFolder.default()
    progress = Progress(options.progress_fd)
    lock = PidFile(state.pid_file)
    try:
        preflight.check_folder(state)
        try:
            lock.acquire()
        except AlreadyRunning as error:
            raise StartError(
                f"Polyvisor runs already with pid {error.info.get('pid', '?')} on {state.root}",
                "`polyvisor status` shows it, `polyvisor down` stops it.",
                ALREADY_RUNNING,
            ) from error
        except OSError as error:
            raise preflight.folder_failure(state.root, error) from error
        os.umask(0o077)
        set_up(state.log, options.foreground, bool(os.environ.get("POLYVISOR_DEBUG")))
        preflight.check_libvirt()
        preflight.check_database(state.database)
        asyncio.run(_run(state, options.port, progress, lock))
    except StartError as error:
        logger.error(error.message, extra={"hint": error.hint})
        _tell(progress, error)
        return error.code
    except OSError as error:
        logger.exception("the process ends")
        failure = preflight.folder_failure(state.root, error)
        _tell(progress, failure)
        return failure.code
    except Exception as error:
        logger.exception("the process ends")
        _tell(progress, StartError(f"something unforeseen went wrong: {error!r}", f"{state.log} has the traceback."))
        return ERROR
    finally:
        lock.release()
    return 0


def _tell(progress: Progress, error: StartError) -> None:
    progress.failed(error.message, error.hint, error.code)
    sys.stderr.write(f"polyvisor: {error.message}\n" + (f"{error.hint}\n" if error.hint else ""))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m polyvisor.standalone")
    parser.add_argument("--state-dir", default="")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--progress-fd", type=int, default=-1)
    parser.add_argument("--foreground", action="store_true")
    return parser.parse_args(arguments)


async def _run(state: StateFolder, port: int, progress: Progress, lock: PidFile) -> None:
    from polyvisor.standalone.parts import Parts

    loop = asyncio.get_running_loop()
    told: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT, DRAIN):
        loop.add_signal_handler(number, told.put_nowait, number)
    listener = preflight.listen(port, last_port(state))
    url = f"https://{preflight.HOST}:{listener.getsockname()[1]}"
    lock.write({"pid": os.getpid(), "url": url, "ready": False})
    parts = Parts(state, listener, url, progress)
    starting = asyncio.create_task(parts.start(), name="start")
    stopping = asyncio.create_task(told.get(), name="signal")
    drain = False
    try:
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            starting.result()
            info = {"pid": os.getpid(), "url": url, "ready": True}
            lock.write(info)
            logger.info("ready", extra=info)
            progress.ready(info)
            failed = asyncio.create_task(parts.failed(), name="failed")
            await asyncio.wait([stopping, failed], return_when=asyncio.FIRST_COMPLETED)
            if not stopping.done():
                failed.result()
            failed.cancel()
        drain = stopping.result() == DRAIN
    finally:
        stopping.cancel()
        lock.write({"pid": os.getpid(), "url": url, "ready": False, "stopping": True})
        if not starting.done():
            starting.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await starting
        # A second signal while guests are shutting down: stop waiting for them.
        again = asyncio.create_task(told.get(), name="second signal")
        await parts.stop(drain, again)
        again.cancel()
        listener.close()
        logger.info("stopped", extra={"drained": drain})


def last_port(state: StateFolder) -> int:
    """Return the port that clients know from the kubeconfig, so that copies of it stay good."""
    import yaml

    try:
        document = yaml.safe_load(state.kubeconfig.read_text())
        return int(urlsplit(document["clusters"][0]["cluster"]["server"]).port or DEFAULT_PORT)
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
        return DEFAULT_PORT
