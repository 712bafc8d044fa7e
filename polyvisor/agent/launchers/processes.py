"""The launchers of this node: one process a folder below ``<state>/l``, started, found again, restarted, retired.

A launcher is started in a session of its own and outlives the agent. After a restart it is found by its socket, or,
while it is not listening yet, by process id and start time; and since a launcher holds a lock on its folder, a second
one on the same folder ends by itself. So there may be a moment without a launcher, never one with two.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from polyvisor.agent.errors import UnsafePath
from polyvisor.agent.files import safepath
from polyvisor.agent.launchers.confinement import PLACES, Confinement
from polyvisor.agent.launchers.ended_logs import EndedLogs
from polyvisor.agent.link.connection import ACTIVE, LauncherError, LauncherGone, Link
from polyvisor.agent.network.pods import Networks
from polyvisor.drivers.base import LauncherPlan
from polyvisor.drivers.pace import Deadline, has_passed
from polyvisor.kube.tasks import end_task

START_SECONDS = 40.0
STOP_SECONDS = 20.0
PROTOCOL = 1
MAX_FILE = 4 * 1024 * 1024
SOCKET = "launcher.sock"
PLAN = "plan.json"
WORKSHOPS, NAMESPACE = "w", "namespace"
ROOTS = ("HOME", "TMPDIR", "XDG_RUNTIME_DIR", "USER", "LOGNAME")
"""What is root's in the environment, and no other user's."""
PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "XDG_RUNTIME_DIR", "USER", "LOGNAME")
PREFIXES = ("LIBVIRT_", "VIR_", "POLYVISOR_")


def folder_id(pod_uid: str) -> str:
    """Return the name of the folder of a Pod: short, because libvirt puts sockets below it."""
    return pod_uid.replace("-", "")[:12]


class Launchers:
    """Owns the links to all launchers. ``changed`` is told the folder's id when something is worth a look."""

    def __init__(
        self,
        root: Path,
        changed: Callable[[str], None],
        networks: Networks | None = None,
        confinement: Confinement | None = None,
    ) -> None:
        self.root = root
        self.changed = changed
        self.networks = networks or Networks()
        self.ended_logs = EndedLogs(root.with_name("ended"))
        self.confinement = confinement
        self.ended: Callable[[], None] = lambda: None
        """Called when a machine is over and its launcher has ended."""
        self.started = 0
        self._links: dict[str, Link] = {}
        self._children: dict[str, asyncio.subprocess.Process] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._connecting: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def folder(self, id_: str) -> Path:
        """Return a launcher's folder."""
        return self.root / id_

    def inside(self, id_: str) -> Path:
        """Return a launcher's folder by the name that the launcher itself has for it."""
        return self.folder(id_)

    def owner(self, id_: str) -> int | None:
        """Return the user that a launcher is, who may do with its folder as it likes; None if it is this process's."""
        try:
            user = self.folder(id_).stat(follow_symlinks=False).st_uid
        except FileNotFoundError:
            return None
        return user if user != os.geteuid() else None

    def workshop(self, id_: str) -> Path | None:
        """Return the folder with what this process alone may write of a launcher that is another user."""
        return None if self.owner(id_) is None else self.root.with_name(WORKSHOPS) / id_

    def places(self, id_: str) -> tuple[Path, Path | None]:
        """Return a launcher's folder, and the workshop of one that has one."""
        return self.folder(id_), self.workshop(id_)

    def lock(self, id_: str) -> asyncio.Lock:
        """Return the lock that is held while a machine is made or taken down."""
        return self._locks[id_]

    def ids(self) -> list[str]:
        """Return the ids of all folders that there are."""
        return sorted(entry.name for entry in self.root.iterdir()) if self.root.is_dir() else []

    def get(self, id_: str) -> Link | None:
        """Return the open link to a launcher, if there is one."""
        link = self._links.get(id_)
        return link if link and not link.closed else None

    def make_folder(self, id_: str) -> None:
        """Make a launcher's folder; from then on there may be something of its Pod's (:meth:`over`)."""
        self.folder(id_).mkdir(mode=0o700, parents=True, exist_ok=True)

    def give(self, id_: str, user: int, namespace: str) -> None:
        """Make another user a launcher's, before it has a plan; it sees disks of one namespace."""
        (name,) = safepath.parts(namespace)
        for place in PLACES:
            with safepath.opened_root(self.root.with_name(place) / name, create=True) as of_namespace:
                os.fchmod(of_namespace, 0o711)
        with safepath.opened_root(self.root.with_name(WORKSHOPS) / id_, create=True):
            safepath.write_atomic(self.root.with_name(WORKSHOPS) / id_ / NAMESPACE, name.encode())
        with safepath.opened_root(self.folder(id_)) as folder:
            os.fchown(folder, user, user)

    def write_plan(self, id_: str, plan: LauncherPlan, *, name: str, uuid: str, driver: str) -> None:
        """Make the folder and write the plan, unless it is there: a launcher's plan never changes."""
        self.make_folder(id_)
        if self.known(id_):
            return
        folder, workshop = self.folder(id_), self.workshop(id_)
        data = {**asdict(plan), "protocol": PROTOCOL, "driver": driver, "domain": {"name": name, "uuid": uuid}}
        text = json.dumps(data).encode()
        if workshop is None:
            safepath.write_atomic(folder / PLAN, text)
        else:
            with safepath.opened_root(folder) as at:
                safepath.put(at, PLAN, text)
            safepath.write_atomic(workshop / PLAN, text)

    def known(self, id_: str) -> dict[str, Any]:
        """Return the plan of a launcher; empty if there is none or it was never finished."""
        try:
            plan = json.loads(safepath.read_file(self.workshop(id_) or self.folder(id_), PLAN, MAX_FILE))
        except (OSError, ValueError, UnsafePath):
            return {}
        return plan if isinstance(plan, dict) else {}

    def exists(self, id_: str) -> bool:
        """Whether a launcher was ever started in a folder, so that there may be a domain."""
        folder = self.folder(id_)
        return bool(process_of(folder)) or (folder / "state.json").exists()

    def over(self, pod_uid: str) -> bool:
        """Whether what a Pod that is gone has run is surely gone too."""
        return not self.folder(folder_id(pod_uid)).exists()

    def may_run(self, id_: str) -> bool:
        """Whether there is a launcher in a folder, or a machine that was running when its launcher died."""
        folder = self.folder(id_)
        try:
            state = json.loads(safepath.read_file(folder, "state.json", MAX_FILE)).get("state")
        except (OSError, ValueError, AttributeError, UnsafePath):
            state = ""
        return bool(process_of(folder)) or state in ACTIVE

    async def ensure(self, id_: str) -> Link:
        """Return a link to the launcher, starting it if there is none. Raises :class:`LauncherError`."""
        async with self._connecting[id_]:
            if link := self.get(id_):
                return link
            starting = asyncio.create_task(self._found_or_started(id_), name=f"launcher-{id_}-starts")
            deadline = Deadline(START_SECONDS)
            try:
                while not starting.done():
                    await asyncio.wait([starting], timeout=START_SECONDS)
                    if not starting.done() and await asyncio.to_thread(has_passed, deadline):
                        self._kill(id_)
                        what = f"the launcher in {self.folder(id_)} did not come up in {deadline.waited:.0f} s"
                        raise LauncherError(what)
                link = starting.result()
            finally:
                await end_task(starting)
            self._links[id_] = link
            return link

    async def _found_or_started(self, id_: str) -> Link:
        folder = self.folder(id_)
        child: asyncio.subprocess.Process | None = None
        while True:
            try:
                return await Link.connect(folder / SOCKET, lambda: self.changed(id_))
            except LauncherGone:
                pass
            if child is not None and child.returncode is not None and not process_of(folder):
                raise LauncherError(f"the launcher ended with code {child.returncode}: {_last_words(folder)}")
            if child is None and not process_of(folder):
                child = await self._spawn(id_)
            await asyncio.sleep(0.01)  # nothing tells when the socket begins to listen

    async def _spawn(self, id_: str) -> asyncio.subprocess.Process:
        folder, user = self.folder(id_), self.owner(id_)
        keep = {key: value for key, value in os.environ.items() if key in PASSED_ON or key.startswith(PREFIXES)}
        confined: list[str] = []
        if user is not None:
            if self.confinement is None or self.confinement.why_not:
                why = self.confinement.why_not if self.confinement else "there is no agent"
                raise LauncherError(f"the launcher in {folder} cannot become user {user}: {why}")
            devices = self.known(id_).get("devices") or []
            namespace = safepath.read_file(self.root.with_name(WORKSHOPS) / id_, NAMESPACE, MAX_FILE).decode()
            confined = self.confinement.command(folder, user, devices, id_, namespace)
            keep = {key: value for key, value in keep.items() if key not in ROOTS} | {"HOME": str(folder)}
        log = await asyncio.to_thread(_opened_log, folder, user)
        try:
            child = await asyncio.create_subprocess_exec(
                *self.networks.prefix(id_),
                *confined,
                sys.executable,
                "-P",
                "-m",
                "polyvisor.launcher",
                str(folder),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=keep,
                start_new_session=True,
            )
        finally:
            os.close(log)
        self._children[id_] = child
        self.started += 1
        return child

    def _kill(self, id_: str) -> None:
        """End a launcher that hangs; its domain goes on and the next launcher adopts it."""
        if pid := process_of(self.folder(id_)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def retire(self, id_: str) -> None:
        """Destroy what runs in a folder, end its launcher and remove the folder. Safe to repeat."""
        folder = self.folder(id_)
        if self.exists(id_):
            link = await self.ensure(id_)
            if link.active:
                await link.request("destroy")
            await self.quit(id_)
        self._links.pop(id_, None)
        self._children.pop(id_, None)
        await self._release(id_)
        if uuid := (self.known(id_).get("domain") or {}).get("uuid"):
            await asyncio.to_thread(self.ended_logs.keep, folder, uuid)
        if (workshop := self.workshop(id_)) is not None:
            await asyncio.to_thread(safepath.remove_path, workshop)
        await asyncio.to_thread(safepath.remove_path, folder)
        self._locks.pop(id_, None)
        self._connecting.pop(id_, None)

    async def quit(self, id_: str) -> None:
        """End the launcher of a machine that is over, and wait for the end of its process."""
        link = await self.ensure(id_)
        with suppress(LauncherGone):
            await link.request("quit")
        self._links.pop(id_, None)
        await link.close()
        await _gone(link.pid)
        (self.folder(id_) / "state.json").unlink(missing_ok=True)  # there is no domain to come back to
        await self._release(id_)
        self.ended()

    async def _release(self, id_: str) -> None:
        await self.networks.release(id_)
        if self.confinement is not None:
            await asyncio.to_thread(self.confinement.release, id_)

    async def close(self) -> None:
        """Let go of all launchers; they go on."""
        for link in list(self._links.values()):
            await link.close()
        self._links.clear()


async def _gone(pid: int) -> None:
    """Wait for the end of a process that need not be a child of ours."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await ended.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _opened_log(folder: Path, user: int | None) -> int:
    """Open a launcher's log to write to; one that its launcher may have put there is no other's file."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    with safepath.opened_root(folder) as root:
        log = safepath.open_file(root, ["launcher.log"], flags)
    if user is not None:
        if os.fstat(log).st_nlink != 1:
            os.close(log)
            raise UnsafePath(f"launcher.log in {folder} is another file, too")
        os.fchown(log, user, user)
    return log


def process_of(folder: Path) -> int:
    """Return the launcher's process id by its pid file, 0 if that process is not there any more.

    A launcher that is another user names no process but that user's own.
    """
    try:
        owner = folder.stat(follow_symlinks=False).st_uid
        pid, start = map(int, safepath.read_file(folder, "launcher.pid", MAX_FILE).split())
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        users = re.findall(r"^Uid:\t(\d+)\t(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except (OSError, ValueError, UnsafePath):
        return 0
    if owner != os.geteuid() and users != [(str(owner), str(owner))]:
        return 0
    return pid if int(fields[19]) == start and fields[0] != "Z" else 0


def _last_words(folder: Path) -> str:
    try:
        with safepath.opened_root(folder) as root, os.fdopen(safepath.open_file(root, ["launcher.log"]), "rb") as file:
            file.seek(-min(4096, os.fstat(file.fileno()).st_size), os.SEEK_END)
            lines = file.read(4096).decode(errors="replace").strip().splitlines()
    except (OSError, UnsafePath):
        lines = []
    return _message(lines[-1])[:300] if lines else f"see {folder}/launcher.log"


def _message(line: str) -> str:
    """Return what a line of a launcher's log says: a JSON object, or the plain words of one that could not begin."""
    try:
        return str(json.loads(line)["message"])
    except (ValueError, LookupError, TypeError):
        return line
