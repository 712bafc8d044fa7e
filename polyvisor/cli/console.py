"""``console``: the guest's serial console in this terminal, over the websocket that KubeVirt's clients use.

A terminal is put into raw mode and always put back. Input that is not a terminal (a pipe) is sent as it comes; when
it ends, output goes on until the guest has been silent for a while, so that ``echo id | polyvisor console vm`` ends.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager

from polyvisor.cli.client import Client
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.lifecycle import subresource
from polyvisor.cli.output import note
from polyvisor.cli.streams import options, refusal
from polyvisor.cli.websocket import Websocket

ESCAPE = b"\x1d"


@contextmanager
def connected(client: Client, namespace: str, name: str, timeout: float = 10.0) -> Iterator[Websocket]:
    """Have the console's websocket open; the server's refusal comes as :class:`ApiError`."""
    with _open(client, namespace, name, timeout) as websocket:
        yield websocket


def _open(client: Client, namespace: str, name: str, timeout: float) -> Websocket:
    from websockets.exceptions import InvalidHandshake

    url, arguments = options(client, subresource(namespace, "virtualmachineinstances", name, "console"), timeout)
    try:
        return Websocket(url, **arguments)
    except (OSError, InvalidHandshake, TimeoutError) as error:
        raise refusal(client, error) from error


def attach(client: Client, namespace: str, name: str, idle: float) -> None:
    """Join this process's input and output with the guest's console until either side ends it."""
    with connected(client, namespace, name) as websocket:
        interactive = sys.stdin.isatty()
        note(f"Connected to the console of {name}." + (" Escape with ^]." if interactive else ""))
        ended, wake = os.pipe()
        receiver = _Receiver(websocket, wake)
        try:
            with _raw(interactive):  # before the first byte comes: what is typed at a prompt is for the guest
                receiver.start()
                _send_input(websocket, ended, receiver, None if interactive else idle)
        finally:
            websocket.close()
            if receiver.ident is not None:
                receiver.join(timeout=5)
            os.close(ended)
            os.close(wake)
    if interactive:
        note("\nDisconnected.")
    if receiver.failure:
        raise CliError(receiver.failure, ExitCode.ERROR)


class _Receiver(threading.Thread):
    """Copies what the guest writes to standard output; writes to ``wake`` for activity and closing."""

    def __init__(self, websocket: Websocket, wake: int) -> None:
        super().__init__(name="console", daemon=True)
        self._websocket = websocket
        self._wake = wake
        self.closed = threading.Event()
        self.failure = ""

    def run(self) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            while True:
                raw = self._websocket.recv()
                while raw:
                    raw = raw[os.write(1, raw) :]
                os.write(self._wake, b".")
        except ConnectionClosed as error:
            reason = error.rcvd.reason if error.rcvd else ""
            if reason:
                self.failure = f"the console was closed: {reason}"
        except OSError:
            pass
        finally:
            self.closed.set()
            try:
                os.write(self._wake, b"!")
            except OSError:
                return


def _send_input(websocket: Websocket, ended: int, receiver: _Receiver, idle: float | None) -> None:
    from websockets.exceptions import ConnectionClosed

    stdin = sys.stdin.fileno()
    watched = [stdin, ended]
    while True:
        silent_for = idle if stdin not in watched else None
        ready, _, _ = select.select(watched, [], [], silent_for)
        if not ready:
            return
        if ended in ready:
            os.read(ended, 65536)
            if receiver.closed.is_set():
                return
        if stdin in ready:
            data = os.read(stdin, 4096)
            before, escape, _ = data.partition(ESCAPE)
            try:
                if before:
                    websocket.send(before)
            except ConnectionClosed:
                return
            if escape and idle is None:
                return
            if not data:
                if idle is None:
                    return
                watched.remove(stdin)


@contextmanager
def _raw(interactive: bool) -> Iterator[None]:
    if not interactive:
        yield
        return
    saved = termios.tcgetattr(0)

    def restore_and_die(number: int, _frame: object) -> None:
        termios.tcsetattr(0, termios.TCSADRAIN, saved)
        raise SystemExit(128 + number)

    previous = {s: signal.signal(s, restore_and_die) for s in (signal.SIGTERM, signal.SIGHUP)}
    try:
        tty.setraw(0)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, saved)
        for number, handler in previous.items():
            signal.signal(number, handler)
