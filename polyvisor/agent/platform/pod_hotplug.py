"""Disks that come to and go from a launcher Pod: claims that another Pod has, shown to the launcher one by one.

The kubelet mounts the claims for an attachment Pod, which the controller makes. A disk image in one is bind-mounted
over a file in the launcher's ``hotplug-disks``, and so is the file that a memory dump becomes; a block device gets a
node there. The mounts are in the launcher's own namespace, so the kernel takes them away with it, whoever else is dead
by then.

What isn't obvious: neither Pod is believed. An attachment Pod may be anybody's who may make Pods; what it can bring
about is that a file of its own is shown, or a device that its container was really given (:mod:`.device_rights`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from polyvisor.agent.errors import AgentError, UnsafePath, translated
from polyvisor.agent.files import mounting, safepath
from polyvisor.agent.link import containers
from polyvisor.agent.node import device_rights
from polyvisor.agent.platform.pod_sources import Launcher, PodPlaces, mount_of
from polyvisor.agent.storage import disks
from polyvisor.agent.storage.disks import DiskFile
from polyvisor.agent.storage.dump_files import DumpFile, dump_file
from polyvisor.api import Obj
from polyvisor.api import launcher_pods as inside
from polyvisor.api.quantity import whole

IMAGE, DEVICE, DUMP = ".img", ".dev", ".dump"
OLD = (
    "this launcher Pod is of a release that took no disks while a machine ran; they come with the machine's next start"
)


@dataclass(frozen=True)
class Shelf:
    """Where a launcher's disks that came lie. ``folder`` is the agent's view, which the launcher cannot write to."""

    pod: Obj
    launcher: Launcher
    folder: Path

    @contextmanager
    def _launchers(self) -> Iterator[tuple[int, int]]:
        """Give the launcher's process and its view of the folder."""
        places = PodPlaces(self.pod, self.launcher, Path(), {})
        with places.launchers() as (process, root):
            names = safepath.real_folder(root, safepath.parts(inside.HOTPLUG_FOLDER))
            with safepath.walk(root, names) as folder:
                yield process, folder

    @contextmanager
    def _own(self) -> Iterator[int]:
        if self.launcher.privileged:  # it could have put anything here
            raise AgentError("a launcher with all privileges takes no disks while its machine runs")
        if not self.folder.exists():
            raise AgentError(OLD)
        with safepath.opened_root(self.folder) as own:
            yield own

    def put(self, name: str, claim: Obj, attachment: Obj) -> DiskFile:
        """Show the launcher the disk of a volume, by its name in the attachment Pod. Blocking; safe to repeat."""
        doing = f"showing the disk of volume {name} to the launcher"
        with translated(self.folder, doing), self._own() as own, ExitStack() as stack:
            process, pid, root = stack.enter_context(_container(attachment))
            place = safepath.parts(inside.attached_claim(name))
            if inside.is_block(claim):
                self._put_device(own, name, _device(root, place, pid))
                return DiskFile(Path(inside.HOTPLUG_FOLDER, name + DEVICE), "raw", block=True)
            file = stack.enter_context(self._image(root, place, claim))
            self._put_file(own, name + IMAGE, process, file)
            return DiskFile(Path(inside.HOTPLUG_FOLDER, name + IMAGE), "raw")

    @contextmanager
    def _image(self, root: int, place: list[str], claim: Obj) -> Iterator[int]:
        """Give the disk image in a claim, which is made if it is not there."""
        size = int(whole(claim["spec"]["resources"]["requests"]["storage"]))
        with safepath.walk(root, safepath.real_folder(root, place)) as folder:
            try:
                file = safepath.open_file(folder, ["disk.img"])
            except FileNotFoundError:
                full = disks.capacity(size, f"claim {claim['metadata']['name']}")
                disks.create_raw(folder, "disk.img", full, Path("/", *place), self.launcher.user or None)
                file = safepath.open_file(folder, ["disk.img"])
        try:
            yield file
        finally:
            os.close(file)

    def _put_file(self, own: int, name: str, process: int, file: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o600, dir_fd=own))
        with self._launchers() as (launcher, folder):
            flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
            place = os.open(name, flags, dir_fd=folder)
            try:
                if mount_of(place) != mount_of(folder):
                    return  # it was put there before
                tree = mounting.share_of(process, file)
                try:
                    mounting.place(launcher, [(tree, place)])
                finally:
                    os.close(tree)
            finally:
                os.close(place)

    def _put_device(self, own: int, name: str, device: int) -> None:
        with self._launchers():
            device_rights.give(self.launcher.pid, device)
        with suppress(FileNotFoundError):
            if _number(own, name + DEVICE) == device:
                return
            os.unlink(name + DEVICE, dir_fd=own)
        os.mknod(name + DEVICE, stat.S_IFBLK | 0o600, device, dir_fd=own)
        os.chown(name + DEVICE, self.launcher.user, self.launcher.user, dir_fd=own, follow_symlinks=False)

    def dump_file(self, name: str, attachment: Obj, file: str) -> DumpFile:
        """Make the file for a memory dump in a claim that an attachment Pod has, and show it to the launcher."""
        place = safepath.parts(inside.attached_claim(name))
        doing = f"dumping into the claim of volume {name}"
        with translated(self.folder, doing), self._own() as own, ExitStack() as stack:
            process, _, root = stack.enter_context(_container(attachment))
            folder = stack.enter_context(safepath.walk(root, safepath.real_folder(root, place)))
            self.forget_dump(name)  # an agent that died over it had another file
            made = dump_file(folder, file, self.launcher.user or None)
            try:
                self._put_file(own, name + DUMP, process, made.descriptor)
            except BaseException:
                made.close()
                raise
            made.path = f"{inside.HOTPLUG_FOLDER}/{name}{DUMP}"
            made.hide = partial(self.forget_dump, name)
            return made

    def forget_dump(self, name: str) -> None:
        """Take the file of a memory dump away from the launcher. Blocking; safe to repeat."""
        if name + DUMP in self._there():
            with translated(self.folder, "taking a memory dump away from the launcher"), self._own() as own:
                self._take(own, [name + DUMP], set())

    def clear(self, kept: Collection[str]) -> None:
        """Take away all disks but those with the names ``kept``. Blocking; safe to repeat."""
        there = {name for name in self._there() if not name.endswith(DUMP)}
        if gone := sorted(there - set(kept)):
            with translated(self.folder, "taking disks away from the launcher"), self._own() as own:
                self._take(own, gone, there & set(kept))

    def _there(self) -> set[str]:
        try:
            return {name.name for name in self.folder.iterdir()}
        except FileNotFoundError:
            return set()  # a Pod of a release that had no such folder

    def _take(self, own: int, gone: list[str], kept: set[str]) -> None:
        with self._launchers() as (process, folder):
            mounting.take_away(process, folder, [name for name in gone if not name.endswith(DEVICE)])
            held = {_number(own, name) for name in kept}
            for name in gone:
                device = _number(own, name)
                if device and device not in held:
                    device_rights.take(self.launcher.pid, device)
                os.unlink(name, dir_fd=own)


def holder_of(attachments: Collection[Obj], name: str, claim: str) -> Obj | None:
    """Return the newest of a machine's attachment Pods that has a volume mounted, by its name there."""
    found = [
        pod
        for pod in attachments
        if inside.attachment_holds(pod)
        and not pod["metadata"].get("deletionTimestamp")
        and inside.attached_claims(pod).get(name) == claim
    ]
    return max(found, key=lambda pod: str(pod["metadata"].get("creationTimestamp")), default=None)


def told_of(pod: Obj | None) -> Mapping[str, str]:
    """Return what the status tells of an attachment Pod."""
    metadata = pod["metadata"] if pod is not None else {}
    return {"attachPodName": metadata["name"], "attachPodUID": metadata["uid"]} if metadata else {}


@contextmanager
def _container(attachment: Obj) -> Iterator[tuple[int, int, int]]:
    """Give the process of an attachment Pod's container, its number, and its root folder."""
    uid = str(attachment["metadata"]["uid"])
    identity = containers.container_id(attachment, inside.ATTACHMENT_CONTAINER)
    try:
        pid = containers.first_of(uid, identity) if identity else 0
        if not pid:
            raise ProcessLookupError
        with containers.entered(pid, uid, identity) as (process, root):
            yield process, pid, root
    except ProcessLookupError as error:
        raise AgentError(f"attachment Pod {attachment['metadata']['name']} does not run any more") from error


def _number(folder: int, name: str) -> int:
    """Return which device a node is, 0 for a file."""
    return os.stat(name, dir_fd=folder, follow_symlinks=False).st_rdev


def _device(root: int, place: list[str], pid: int) -> int:
    """Return the number of the block device that a container has, and was given."""
    with safepath.walk(root, place[:-1]) as folder:
        info = os.stat(place[-1], dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISBLK(info.st_mode):
        raise UnsafePath(f"/{'/'.join(place)} is not a block device")
    if not device_rights.has(pid, info.st_rdev):
        raise UnsafePath(f"/{'/'.join(place)} is a device that the attachment Pod was not given")
    return info.st_rdev
