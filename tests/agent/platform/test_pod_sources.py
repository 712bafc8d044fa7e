"""What a launcher Pod's machine is made of, and who sees what; containers are processes with a root of their own."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.errors import AgentError, ImageError, UnsafePath
from polyvisor.agent.link import containers
from polyvisor.agent.platform.pod_machines import read_texts
from polyvisor.agent.platform.pod_sources import Launcher, PodPlaces, hand_over, name_seeds
from polyvisor.agent.storage import disks
from polyvisor.agent.storage.making import Inputs, prepare
from polyvisor.agent.storage.prepared import Prepared
from tests.needs import absent

from ..conftest import PlainDriver, RawDriver, TreeDriver

pytestmark = pytest.mark.root
Make = Callable[..., dict[str, Any]]
UID = "6f0c6d0e-3d1b-4a53-9d6b-0e8a2d3c4b5a"
USER = 107
CLAIM = {"spec": {"resources": {"requests": {"storage": "1Mi"}}}}
BODY = "import os, sys, time; os.chroot(sys.argv[1]); os.chdir(chr(47)); print(flush=True); time.sleep(1000)"


class Node:
    """Plays container runtime and kubelet of one Pod."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.machine = folder / "machine"
        self.workshop = folder / "plugins/polyvisor"
        self.launcher = folder / "launcher"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.pod: dict[str, Any] = {"metadata": {"uid": UID}, "spec": {}, "status": {"containerStatuses": []}}
        self.machine.mkdir()
        for name in ("run/polyvisor-machine", "run/kubevirt-private/vmi-disks/data", "dev"):
            (self.launcher / name).mkdir(parents=True)
        (self.launcher / "var").mkdir()
        (self.launcher / "var/run").symlink_to("/run")
        self.privileged = False
        self.launcher_pid = 0

    def start(self, name: str, root: Path, mounts: str = ":", pod: str = UID) -> int:
        script = f"{mounts}; exec {sys.executable} -c '{BODY}' {root}"
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline(), name
        identity = f"{len(self.processes):064x}"
        place = containers.PROC / str(process.pid)
        place.mkdir(parents=True)
        (place / "cgroup").write_text(f"0::/kubepods/burstable/pod{pod}/{identity}\n")
        status = {"name": name, "containerID": f"containerd://{identity}", "state": {"running": {}}}
        self.pod["status"]["containerStatuses"].append(status)
        return process.pid

    def image(self, volume: str, files: dict[str, bytes | str]) -> Path:
        """Start the container of an image; a text is the target of a link."""
        root = self.folder / f"image-{volume}"
        root.mkdir()
        for name, data in files.items():
            place = root / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(data, bytes):
                place.write_bytes(data)
                place.chmod(0o666)
            else:
                place.symlink_to(data)
        self.start(f"volume{volume}", root)
        return root

    def places(self, **claims: dict[str, Any]) -> PodPlaces:
        if not self.launcher_pid:
            target = self.launcher / "run/polyvisor-machine"
            mount = f"mount --bind {self.machine} {target}"
            mount += "" if self.privileged else f"; mount -o remount,bind,ro {target}"
            self.launcher_pid = self.start("compute", self.launcher, mount)
        launcher = Launcher(self.launcher_pid, 0 if self.privileged else USER, self.privileged)
        return PodPlaces(self.pod, launcher, self.folder / "hostdisks", claims)

    def seen(self, path: str | Path) -> Path:
        """Return the name here of a file that the launcher has by ``path``."""
        return Path(f"/proc/{self.launcher_pid}/root", str(path).lstrip("/").removeprefix("var/"))

    def make(self, vmi: dict[str, Any], driver: Any = None, **claims: dict[str, Any]) -> Prepared:
        places = self.places(**claims)
        prepared = prepare(
            vmi, driver or PlainDriver(), self.machine, places, Inputs(claims=claims), workshop=self.workshop
        )
        hand_over(vmi, prepared, self.machine, places)
        return prepared


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    monkeypatch.setattr(containers, "PROC", tmp_path / "proc")
    (tmp_path / "proc").mkdir()
    node = Node(tmp_path)
    yield node
    for process in node.processes:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def as_launcher(node: Node, path: Path | str, mode: str = "r+b") -> bytes:
    """Open a file as the launcher's user sees it."""
    code = "import os, sys; root, path, mode = sys.argv[1:]; os.chroot(root); os.setgid(107); os.setuid(107); "
    code += "sys.stdout.buffer.write(open(path, mode).read(4))"
    command = ["nsenter", f"--target={node.launcher_pid}", "--mount", sys.executable, "-c", code]
    done = subprocess.run([*command, node.launcher, path, mode], capture_output=True)
    if done.returncode:
        raise OSError(done.stderr.decode().splitlines()[-1])
    return done.stdout


def test_a_container_disk_is_seen_by_the_launcher_and_only_its_overlay_is_writable(node: Node, make_vmi: Make) -> None:
    node.image("root", {"disk/d.img": b"x" * 4096})
    prepared = node.make(make_vmi({"name": "root", "containerDisk": {"image": "a:1"}}))
    file = prepared.files["root"]
    assert file == disks.DiskFile(Path("/var/run/polyvisor-machine/disks/root.qcow2"), "qcow2")
    assert prepared.sizes == {"root": 4096}
    base = "/var/run/polyvisor-machine/disks/root.image/disk/d.img"
    assert base.encode() in (node.machine / "disks/root.qcow2").read_bytes()
    assert as_launcher(node, file.path) == b"QFI\xfb"
    assert as_launcher(node, base, "rb") == b"xxxx"
    with pytest.raises(OSError, match="Read-only file system"):
        as_launcher(node, base)
    (node.machine / "disks").chmod(0o777)
    with pytest.raises(OSError, match="Read-only file system"):
        as_launcher(node, "/run/polyvisor-machine/disks/mine", "w+b")
    assert not (node.machine / "disks/prepared.json").exists()
    assert (node.workshop / "prepared.json").exists()


def test_handing_over_twice_mounts_once(node: Node, make_vmi: Make) -> None:
    vmi = make_vmi({"name": "data", "emptyDisk": {"capacity": "1Mi"}})
    node.make(vmi, RawDriver())
    before = Path(f"/proc/{node.launcher_pid}/mountinfo").read_text()
    assert "data.img" in before
    node.make(vmi, RawDriver())
    assert Path(f"/proc/{node.launcher_pid}/mountinfo").read_text() == before


def test_nothing_is_mounted_on_the_node_itself(node: Node, make_vmi: Make) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    node.image("root", {"disk/d": b"x" * 4096})
    node.make(make_vmi({"name": "root", "containerDisk": {"image": "a:1"}}))
    assert Path("/proc/self/mountinfo").read_text() == before


@pytest.mark.parametrize("target", ["/etc/hostname", "../../../../../../etc/hostname", "/proc/1/environ"])
def test_a_link_in_an_image_leads_nowhere_else(node: Node, make_vmi: Make, target: str) -> None:
    node.image("root", {"disk/d": target})
    with pytest.raises(ImageError, match="has no file"):
        node.make(make_vmi({"name": "root", "containerDisk": {"image": "a:1"}}))


def test_a_link_inside_an_image_is_followed_inside_it(node: Node, make_vmi: Make) -> None:
    node.image("root", {"disk/d": "/real/d.img", "real/d.img": b"x" * 4096})
    prepared = node.make(make_vmi({"name": "root", "containerDisk": {"image": "a:1"}}))
    assert b"disks/root.image/real/d.img" in (node.machine / "disks/root.qcow2").read_bytes()
    assert prepared.files["root"].format == "qcow2"


def test_mounts_of_the_images_container_are_not_the_images(node: Node, make_vmi: Make) -> None:
    root = node.folder / "image-root"
    (root / "disk").mkdir(parents=True)
    (node.folder / "elsewhere").mkdir()
    (node.folder / "elsewhere/d.img").write_bytes(b"x" * 4096)
    node.start("volumeroot", root, f"mount --bind {node.folder}/elsewhere {root}/disk")
    with pytest.raises(ImageError, match="no file below /disk"):
        node.make(make_vmi({"name": "root", "containerDisk": {"image": "a:1"}}))


def test_a_container_of_another_pod_is_not_believed(node: Node, make_vmi: Make) -> None:
    root = node.folder / "image-root/disk"
    root.mkdir(parents=True)
    node.start("volumeroot", root.parent, pod="11111111-3d1b-4a53-9d6b-0e8a2d3c4b5a")
    with pytest.raises(AgentError, match="does not run any more"):
        node.make(make_vmi({"name": "root", "containerDisk": {"image": "a:1"}}))
    node.pod["status"]["containerStatuses"] = []
    with pytest.raises(AgentError, match="does not run yet"):
        node.make(make_vmi({"name": "root", "containerDisk": {"image": "a:1"}}))


def test_a_launcher_that_is_another_process_now_is_handed_nothing(node: Node, make_vmi: Make) -> None:
    vmi = make_vmi({"name": "data", "emptyDisk": {"capacity": "1Mi"}})
    places = node.places()
    prepared = prepare(vmi, RawDriver(), node.machine, places, Inputs())
    group = containers.PROC / str(node.launcher_pid) / "cgroup"
    group.write_text(group.read_text().replace(UID, "11111111-3d1b-4a53-9d6b-0e8a2d3c4b5a"))
    with pytest.raises(AgentError, match="the launcher has ended"):
        hand_over(vmi, prepared, node.machine, places)


def test_a_claims_disk_is_made_for_the_launcher_and_stays(node: Node, make_vmi: Make) -> None:
    vmi = make_vmi({"name": "data", "persistentVolumeClaim": {"claimName": "c"}})
    prepared = node.make(vmi, c=CLAIM)
    assert prepared.files["data"] == disks.DiskFile(Path("/var/run/kubevirt-private/vmi-disks/data/disk.img"), "raw")
    file = node.launcher / "run/kubevirt-private/vmi-disks/data/disk.img"
    info = file.stat()
    assert (info.st_size, info.st_uid, stat.S_IMODE(info.st_mode)) == (1 << 20, USER, 0o600)
    file.write_bytes(b"kept")
    os.chown(file, 5, 5)
    shutil.rmtree(node.machine / "disks")
    shutil.rmtree(node.workshop)
    assert node.make(vmi, c=CLAIM).sizes == {"data": 4}
    assert file.read_bytes() == b"kept"
    assert file.stat().st_uid == 5, "what is another's stays another's"


def test_a_claim_that_is_a_block_device_is_the_launchers(node: Node, make_vmi: Make) -> None:
    os.mknod(node.launcher / "dev/data", stat.S_IFBLK | 0o600, os.makedev(7, 0))
    try:
        os.close(os.open(node.launcher / "dev/data", os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        absent("loop devices", str(error))
    block = {"spec": {"volumeMode": "Block"}}
    prepared = node.make(make_vmi({"name": "data", "persistentVolumeClaim": {"claimName": "c"}}), c=block)
    assert prepared.files["data"] == disks.DiskFile(Path("/dev/data"), "raw", block=True)
    assert Prepared.from_json(prepared.to_json()) == prepared
    assert (node.launcher / "dev/data").stat().st_uid == USER


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../etc/passwd"])
def test_a_link_in_a_claim_is_refused(node: Node, make_vmi: Make, target: str) -> None:
    (node.launcher / "run/kubevirt-private/vmi-disks/data/disk.img").symlink_to(target)
    with pytest.raises(UnsafePath, match="symbolic link"):
        node.make(make_vmi({"name": "data", "persistentVolumeClaim": {"claimName": "c"}}), c=CLAIM)


def test_what_is_no_block_device_is_not_taken_for_a_claim(node: Node, make_vmi: Make) -> None:
    (node.launcher / "dev/data").write_bytes(b"")
    block = {"spec": {"volumeMode": "Block"}}
    with pytest.raises(UnsafePath, match="not a block device"):
        node.make(make_vmi({"name": "data", "persistentVolumeClaim": {"claimName": "c"}}), c=block)


def test_a_host_disk_is_handed_over_alone(node: Node, make_vmi: Make) -> None:
    source = {"path": "mine/d.img", "type": "DiskOrCreate", "capacity": "1Mi"}
    prepared = node.make(make_vmi({"name": "h", "hostDisk": source}))
    made = node.folder / "hostdisks/mine/d.img"
    made.write_bytes(b"host" + bytes(100))
    assert as_launcher(node, prepared.files["h"].path) == b"host"
    assert made.stat().st_uid == USER
    shutil.rmtree(node.machine / "disks")
    shutil.rmtree(node.workshop)
    with pytest.raises(AgentError, match="only files below"):
        node.make(make_vmi({"name": "i", "hostDisk": {"path": "/etc/hostname"}}))


def test_a_kernel_is_copied_out_of_its_image(node: Node, make_vmi: Make) -> None:
    node.image("kernel-boot-volume", {"boot/vmlinuz": b"kernel", "boot/initrd": b"initrd"})
    boot = {"image": "k:1", "kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd"}
    prepared = node.make(make_vmi(domain={"firmware": {"kernelBoot": {"container": boot}}}))
    assert prepared.kernel is not None
    assert prepared.initrd is not None
    assert as_launcher(node, prepared.kernel, "rb") == b"kern"
    assert as_launcher(node, prepared.initrd, "rb") == b"init"
    with pytest.raises(OSError, match="Permission denied"):
        as_launcher(node, prepared.kernel)


def test_a_root_filesystem_is_a_copy_of_the_image(node: Node, make_vmi: Make) -> None:
    node.privileged = True
    image = node.image("root", {"etc/issue": b"mine", "sbin/init": b"x", "bin": "sbin"})
    prepared = node.make(make_vmi({"name": "root", "containerDisk": {"image": "a:1"}}), TreeDriver())
    assert prepared.root == Path("/var/run/polyvisor-machine/disks/root")
    root = node.seen(prepared.root)
    assert (root / "etc/issue").read_bytes() == b"mine"
    assert (root / "bin").is_symlink()
    (root / "etc/issue").write_bytes(b"written")
    assert (image / "etc/issue").read_bytes() == b"mine"


def test_a_root_in_a_claim_is_the_launchers(node: Node, make_vmi: Make) -> None:
    node.privileged = True
    outside = node.folder / "outside"
    outside.mkdir()
    claim = node.launcher / "run/kubevirt-private/vmi-disks/root"
    claim.mkdir()
    (claim / "var").symlink_to(outside)
    seed = {"name": "seed", "cloudInitNoCloud": {"userData": "#cloud-config"}}
    vmi = make_vmi({"name": "root", "persistentVolumeClaim": {"claimName": "c"}}, seed)
    places = node.places(c=CLAIM)
    inputs = Inputs(claims={"c": CLAIM}, resolver="nameserver 10.96.0.10\n")
    prepared = prepare(vmi, TreeDriver(), node.machine, places, inputs)
    assert prepared.root == Path("/var/run/kubevirt-private/vmi-disks/root")
    assert (claim / "etc/resolv.conf").read_text().endswith("\nnameserver 10.96.0.10\n")
    seeded = str(outside / "lib/cloud/seed/nocloud/user-data").lstrip("/")
    assert (claim / seeded).read_text() == "#cloud-config", "a link leads where the guest has it lead"
    assert not list(outside.iterdir())


def test_texts_are_read_where_the_kubelet_puts_them(tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026/userdata").write_bytes(b"secret")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "userdata").symlink_to("..data/userdata")
    assert read_texts(tmp_path) == {"userdata": b"secret"}
    assert read_texts(tmp_path / "none") == {}


def test_processes_are_known_by_their_control_groups() -> None:
    identity = "ab" * 32
    plain = f"12:cpu:/x/kubepods/pod{UID}/{identity}\n"
    systemd = f"0::/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/cri-containerd-{identity}.scope\n"
    for groups in (plain, systemd):
        assert containers.is_of(groups, UID)
        assert containers.is_of(groups, UID, identity)
        assert not containers.is_of(groups, UID, "cd" * 32)
        assert not containers.is_of(groups, UID.replace("6", "7"), identity)
    assert not containers.is_of(f"0::/{identity}/pod{UID}\n", UID, identity)


def test_only_a_runtimes_id_is_taken_for_one() -> None:
    def status(**fields: Any) -> dict[str, Any]:
        return {"status": {"containerStatuses": [{"name": "c", "state": {"running": {}}, **fields}]}}

    assert containers.container_id(status(containerID=f"containerd://{'ab' * 32}"), "c") == "ab" * 32
    for wrong in ("", "containerd://", "containerd://../../x", "ab" * 32):
        assert containers.container_id(status(containerID=wrong), "c") == ""
    assert containers.container_id(status(containerID=f"cri-o://{'ab' * 32}", state={"waiting": {}}), "c") == ""


def test_containers_are_asked_to_end(node: Node) -> None:
    node.image("root", {"disk/d": b"x"})
    identity = containers.container_id(node.pod, "volumeroot")
    assert containers.end(UID, identity) == 1
    assert node.processes[0].wait(20) != 0
    (containers.PROC / str(node.processes[0].pid) / "cgroup").unlink()
    assert containers.end(UID, identity) == 0


def test_a_link_in_a_disks_place_is_refused(node: Node, make_vmi: Make) -> None:
    vmi = make_vmi({"name": "data", "emptyDisk": {"capacity": "1Mi"}})
    places = node.places()
    prepared = prepare(vmi, RawDriver(), node.machine, places, Inputs())
    (node.machine / "disks/data.img").unlink()
    (node.machine / "disks/data.img").symlink_to("/etc/passwd")
    with pytest.raises(UnsafePath, match="symbolic link"):
        hand_over(vmi, prepared, node.machine, places)


def test_cloud_inits_discs_are_where_kubevirts_tools_look(node: Node, make_vmi: Make) -> None:
    discs = {"cloudInitNoCloud": "noCloud.iso", "cloudInitConfigDrive": "configdrive.iso"}
    volumes: list[dict[str, Any]] = [{"name": kind.lower(), kind: {"userData": "x"}} for kind in discs]
    vmi = make_vmi(*volumes)
    node.make(vmi)
    for _ in range(2):
        name_seeds(vmi, node.machine)
    place = Path("/var/run/polyvisor-machine/cloud-init-data", vmi["metadata"]["namespace"], vmi["metadata"]["name"])
    for kind, name in discs.items():
        seen = node.seen(place / name).lstat()
        assert stat.S_ISREG(seen.st_mode)
        assert seen.st_ino == (node.machine / f"disks/{kind.lower()}.iso").stat().st_ino


def test_a_machine_without_cloud_init_has_no_folder_for_it(node: Node, make_vmi: Make) -> None:
    vmi = make_vmi({"name": "data", "emptyDisk": {"capacity": "1Mi"}})
    node.make(vmi)
    name_seeds(vmi, node.machine)
    assert sorted(entry.name for entry in node.machine.iterdir()) == ["disks"]
