"""How a launcher reaches QEMU: libvirt's driver runs inside the launcher, with its files in the launcher's folder.

No daemon at all. libvirt's answer to "what can this QEMU do" costs seconds when asked for the first time, so launchers
begin with a copy of the answer that the probe left behind. libvirt asks the emulator of every architecture that it
finds; those of others than this machine's are hidden, as no guest of ours has them. An emulated TPM gets its
certificates from an authority of the launcher's own (``XDG_CONFIG_HOME``), so that the host's is neither needed nor
written to.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from polyvisor.drivers.base import LauncherPlan

VSOCK = "/dev/vhost-vsock"
CACHE = "root/cache/qemu/capabilities"
QEMU_CONF = """\
user = "+@UID@"
group = "+@GID@"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
@ROOT@swtpm_user = "+@UID@"
@ROOT@swtpm_group = "+@GID@"
"""
"""Whose the TPM is has to be told to root alone: as another user libvirt may become nobody, not even who it is."""
EMULATOR = "qemu-system-"
SETTINGS = "settings"
TPM_SETUP = """\
create_certs_tool = swtpm_localca
create_certs_tool_config = {folder}/swtpm-localca.conf
create_certs_tool_options = {folder}/swtpm-localca.options
active_pcr_banks = sha256
"""
TPM_PLATFORM = """\
--platform-manufacturer Polyvisor
--platform-version 1
--platform-model QEMU
"""
TPM_AUTHORITY = """\
statedir = {folder}
signingkey = {folder}/signkey.pem
issuercert = {folder}/issuercert.pem
certserial = {folder}/certserial
"""

MONITOR_HMP = 1
"""VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP: commands for people, which alone open ports."""
FORWARD = {
    "call": "libvirt_qemu.qemuMonitorCommand",
    "flags": str(MONITOR_HMP),
    "open": "hostfwd_add host{alias} tcp:127.0.0.1:{local}-:{port}",
    "list": "info usernet",
    "accepted": r"TCP\[(?!HOST_FORWARD)\w+\]\s+\d+\s+127\.0\.0\.1\s+{local}\s",
    "answered": r"TCP\[ESTABLISHED\]\s+\d+\s+127\.0\.0\.1\s+{local}\s",
    "close": "hostfwd_remove host{alias} tcp:127.0.0.1:{local}",
}
MOVE = {
    "call": "libvirt_qemu.qemuMonitorCommand",
    "events": "libvirt_qemu.qemuMonitorEventRegister",
    "event": "MIGRATION",
    "receiving": '{"execute": "migrate-set-capabilities", "arguments": {"capabilities": ['
    '{"capability": "events", "state": true}, {"capability": "late-block-activate", "state": true}]}}',
    "receive": '{"execute": "migrate-incoming", "arguments": {"uri": "unix:@socket@"}}',
    "sending": '{"execute": "migrate-set-capabilities", "arguments": {"capabilities": ['
    '{"capability": "events", "state": true}, {"capability": "return-path", "state": true},'
    ' {"capability": "auto-converge", "state": @converge@},'
    ' {"capability": "pause-before-switchover", "state": @holds@}]}}',
    "limits": '{"execute": "migrate-set-parameters", "arguments":'
    ' {"max-bandwidth": @bandwidth@, "downtime-limit": @downtime@}}',
    "send": '{"execute": "migrate", "arguments": {"uri": "unix:@socket@"}}',
    "look": '{"execute": "query-migrate"}',
    "cancel": '{"execute": "migrate_cancel"}',
    "go-on": '{"execute": "migrate-continue", "arguments": {"state": "pre-switchover"}}',
    "disks": '{"execute": "query-block"}',
    "serve": '{"execute": "nbd-server-start", "arguments": {"addr": {"type": "unix", "data": {"path": "@socket@"}}}}',
    "export": '{"execute": "block-export-add", "arguments": {"type": "nbd", "id": "@name@", "name": "@name@",'
    ' "node-name": "@node@", "writable": true}}',
    "withdraw": '{"execute": "nbd-server-stop"}',
    "attach-copy": '{"execute": "blockdev-add", "arguments": {"driver": "nbd", "node-name": "to-@number@",'
    ' "server": {"type": "unix", "path": "@socket@"}, "export": "@name@"}}',
    "copy": '{"execute": "blockdev-mirror", "arguments": {"job-id": "copy-@number@", "device": "@node@",'
    ' "target": "to-@number@", "sync": "top", "copy-mode": "write-blocking"}}',
    "jobs": '{"execute": "query-block-jobs"}',
    "end-copy": '{"execute": "block-job-cancel", "arguments": {"device": "copy-@number@", "force": @force@}}',
    "detach-copy": '{"execute": "blockdev-del", "arguments": {"node-name": "to-@number@"}}',
}
"""Commands of QEMU's monitor (docs/interop/qemu-qmp-ref) by which a domain's state leaves or comes. With return-path
the source's migration is over only once the target has all of it; with late-block-activate the target takes its disks
when its guest goes on, and not before. Disks on the node are mirrored by NBD; the source stands still before the last
of its state (pause-before-switchover) until they are alike."""
INCOMING = ("-incoming", "defer")
SHARE = (
    "/usr/lib/qemu/virtiofsd",
    "--socket-path={socket}",
    "--socket-group=libvirt-qemu",
    *("-o", "source={folder}", "-o", "sandbox=chroot", "-o", "modcaps=-mknod:-setfcap"),
)
"""Debian 12's virtiofsd, root of a container with few rights; it filters its own system calls. It makes no devices for
a guest and gives no file capabilities, so that what lies in a claim is harmless to whoever else mounts it."""


def warm_cache(scratch: Path) -> Path:
    """Return where the probe keeps libvirt's capabilities cache for the launchers of this node."""
    return scratch / "qemu-capabilities"


def foreign_emulators(path: str, architecture: str = "") -> list[str]:
    """Return the names of QEMU's emulators of other architectures in the folders of ``path``."""
    native = EMULATOR + (architecture or os.uname().machine)
    found = {file.name for folder in path.split(os.pathsep) if folder for file in Path(folder).glob(f"{EMULATOR}*")}
    return sorted(name for name in found if name != native and not name.startswith(f"{native}-"))


def _hiding(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return links and environment by which a launcher finds, before a foreign emulator, a program that just fails."""
    path = os.environ.get("PATH", os.defpath)
    names, fails = foreign_emulators(path), shutil.which("false")
    if not names or not fails:
        return {}, {}
    return {f"bin/{name}": fails for name in names}, {"PATH": f"{folder}/bin{os.pathsep}{path}"}


def launcher_plan(folder: Path, scratch: Path | None) -> LauncherPlan:
    """Build the plan for a launcher in ``folder``."""
    settings = f"{folder}/{SETTINGS}"
    links, search = _hiding(folder) if scratch else ({}, {})  # a Pod's programs are its image's
    return LauncherPlan(
        uri=f"qemu:///embed?root={folder}/root",
        files={
            "root/etc/qemu.conf": QEMU_CONF,
            f"{SETTINGS}/swtpm_setup.conf": TPM_SETUP.format(folder=settings),
            f"{SETTINGS}/swtpm-localca.options": TPM_PLATFORM,
            f"{SETTINGS}/swtpm-localca.conf": TPM_AUTHORITY.format(folder=settings),
        },
        # a launcher's user in a Pod may have no home folder, where libvirt would keep its state
        environment={"XDG_CONFIG_HOME": settings, "XDG_CACHE_HOME": f"{folder}/cache", **search},
        links=links,
        seeds={CACHE: os.fspath(warm_cache(scratch))} if scratch else {},
        start_paused=True,
        strays=("root/lib/qemu/qmp-",),
        shutdown=("acpi",),
        forward=FORWARD,
        move=MOVE,
        agent="libvirt_qemu.qemuAgentCommand",
        keeps={"tpm": "root/lib/swtpm/{uuid}", "firmware": "root/lib/qemu/nvram"},
        share=SHARE,
        devices=("/dev/kvm", "/dev/net/tun", "/dev/vhost-net", VSOCK),
    )
