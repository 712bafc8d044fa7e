"""What the table claims of LXC, seen from inside a real container that looks at itself."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from polyvisor.agent.images.store import ImageStore
from polyvisor.agent.storage.making import Inputs, prepare
from polyvisor.agent.storage.sources import Places
from polyvisor.domain import DomainContext, domain_uuid, render
from polyvisor.drivers.base import Verdict
from polyvisor.drivers.features import BY_ID
from polyvisor.drivers.lxc import LxcDriver
from polyvisor.prerequisites import advised
from polyvisor.testing import bench
from tests.drivers.feature_guest import END, Facts, facts
from tests.drivers.kit import machine
from tests.needs import unmet

DRIVER = LxcDriver()
ROOTFS = "localhost/polyvisor/demo-rootfs:1"
GREETING = "from the claim"
MEMORY = 96 * 1024
VMI = machine(DRIVER, {"cpu": {"cores": 2}})
INIT = """#!/bin/sh
export PATH=/bin:/sbin
fact() { echo "FACT $*"; }
own() { sed -n "s|^[0-9]*:$1:||p" /proc/self/cgroup; }
one() { for path in "$@"; do [ -r "$path" ] && { cat "$path"; return; }; done; }
fact pid $$
fact uuid "$container_uuid"
fact memory.kib "$(awk '/MemTotal/ {print $2}' /proc/meminfo)"
fact memory.limit "$(one "/sys/fs/cgroup/memory$(own memory)/memory.limit_in_bytes" /sys/fs/cgroup/memory.max)"
fact cpu.quota "$(one "/sys/fs/cgroup/cpu$(own cpu)/cpu.cfs_quota_us" /sys/fs/cgroup/cpu.max)"
fact cpu.model "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
fact root "$(cat /marker)"
fact claim "$(cat /mnt/claim/greeting)"
fact texts "$(cat /mnt/maps/key) $(cat /mnt/words/key) $(cat /mnt/self/name)"
fact clock "$(date -u +%Z)"
fact end
exec sleep 1000000
"""
SEEN: dict[str, Callable[[Facts], bool]] = {
    "lifecycle.start": lambda f: f["pid"] == "1",
    "lifecycle.console": lambda f: "end" in f,
    "boot.filesystem": lambda f: f["root"] == "the tree",
    "boot.without-kernel": lambda f: f["pid"] == "1",
    "volume.claim": lambda f: f["claim"] == GREETING,
    **dict.fromkeys(
        ("volume.config-map", "volume.secret", "volume.downward-api"),
        lambda f: f["texts"] == "a-map a-secret virt-launcher-one",
    ),
    "firmware.uuid": lambda f: f["uuid"] == domain_uuid(VMI),
    "memory.guest": lambda f: int(f["memory.kib"]) == MEMORY and int(f["memory.limit"]) == MEMORY * 1024,
    "cpu.count": lambda f: f["cpu.quota"].split()[0] == "200000",
    "cpu.model.host-passthrough": lambda f: f"model name\t: {f['cpu.model']}\n" in Path("/proc/cpuinfo").read_text(),
    "clock.utc": lambda f: f["clock"] == "UTC",
}
ELSEWHERE = {
    "tests/drivers/test_real_lxc_attacks.py": ("isolation.users",),
    "tests/drivers/test_real.py": (
        *("lifecycle.shutdown", "lifecycle.destroy", "lifecycle.pause", "lifecycle.adopt", "lifecycle.events"),
        *("lifecycle.start-paused", "lifecycle.reboot-policy"),
    ),
    "tests/drivers/test_real_statistics.py": ("lifecycle.statistics",),
    "tests/agent/storage/test_making.py": (
        *("volume.container-disk", "volume.cloud-init", "volume.config-drive", "volume.data-volume"),
    ),
    "tests/agent/storage/test_contents.py": ("volume.service-account",),
    "tests/e2e/test_live_cards.py": ("lifecycle.hotplug.interface", "interface.absent"),
}


def texts(base: Path) -> dict[str, Path]:
    """Make folders of texts ready as the agent does."""
    (base / "machine").mkdir()
    volumes = [
        {"name": "root", "persistentVolumeClaim": {"claimName": "root"}},
        {"name": "maps", "configMap": {"name": "m"}},
        {"name": "words", "secret": {"secretName": "s"}},
        {"name": "self", "downwardAPI": {"fields": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]
    places = Places(ImageStore(base / "images", base / "cache"), base / "claims", base / "hostdisks")
    inputs = Inputs(
        {"s": {"key": b"a-secret"}}, {"root": {}}, {"m": {"key": b"a-map"}}, {"metadata": {"name": "virt-launcher-one"}}
    )
    vmi = {"metadata": {"name": "one", "namespace": "default"}, "spec": {"volumes": volumes}}
    return dict(prepare(vmi, DRIVER, base / "machine", places, inputs).folders)


@pytest.fixture(scope="module")
def report(store: ImageStore, tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """Run the container once."""
    base = tmp_path_factory.mktemp("container")
    (base / "scratch").mkdir()
    if not (probed := DRIVER.probe(base / "scratch")).available:
        unmet(f"LXC does not work here: {advised(DRIVER.name, probed.reason)}")
    root, claim = base / "root", base / "claim"
    subprocess.run(["cp", "-a", "-T", store.tree(ROOTFS), root], check=True)
    (root / "sbin" / "init").unlink()
    (root / "sbin" / "init").write_text(INIT)
    (root / "sbin" / "init").chmod(0o755)
    (root / "marker").write_text("the tree")
    claim.mkdir()
    (claim / "greeting").write_text(GREETING)
    context = DomainContext("lxc", root=root, root_volume="root", folders={"claim": claim, **texts(base)})
    with bench(DRIVER, VMI, base / "scratch") as one:
        assert one.launch().result("start", xml=render(VMI, DRIVER, context))["state"] == "running"
        one.says(END)
        return facts(one.console_log())


@pytest.mark.parametrize("feature", SEEN)
def test_the_container_has_what_the_table_claims(feature: str, report: Facts) -> None:
    assert SEEN[feature](report), json.dumps(report, indent=1)


def test_every_claim_is_seen_or_tested_elsewhere() -> None:
    claimed = {id_ for id_, support in DRIVER.features.items() if support.verdict is Verdict.SUPPORTED}
    listed = {*SEEN, *(id_ for ids in ELSEWHERE.values() for id_ in ids)}
    assert listed <= set(BY_ID)
    assert claimed - listed == set()
