"""What QEMU's table claims is seen inside a real guest (tests/e2e/test_real_features.py), or cannot be: then why."""

from __future__ import annotations

from polyvisor.drivers.base import Verdict
from polyvisor.drivers.features import BY_ID
from tests.drivers.feature_run import DRIVER
from tests.drivers.feature_seen import SEEN

ELSEWHERE = {
    "tests/drivers/test_real.py": (
        *("lifecycle.shutdown", "lifecycle.destroy", "lifecycle.pause", "lifecycle.adopt", "lifecycle.events"),
        *("lifecycle.start-paused", "volume.empty-disk", "volume.claim", "volume.cloud-init"),
    ),
    "tests/drivers/test_real_statistics.py": ("lifecycle.statistics",),
    "tests/e2e/test_usbredir.py": ("usb-redirection",),
    "tests/e2e/test_live_cards.py": ("lifecycle.hotplug.interface", "lifecycle.hotplug.link", "interface.absent"),
    "tests/e2e/test_hotplug.py": ("lifecycle.hotplug.disk", "lifecycle.memory-dump", "disk.cdrom.empty"),
    "tests/drivers/test_real_migration.py": ("lifecycle.live-migration",),
    "tests/e2e/test_snapshots.py": ("lifecycle.snapshot",),
    "tests/e2e/test_live_cpus.py": ("lifecycle.hotplug.cpu",),
    "tests/e2e/test_own_cpus.py": ("cpu.pinning",),
    "tests/e2e/test_huge_pages.py": ("memory.hugepages",),
    "tests/e2e/test_shared_disks.py": ("disk.shareable",),
    "tests/e2e/pods/test_service_account.py": ("volume.service-account",),
    "tests/e2e/test_daily_use.py": ("interface.ports",),
    "tests/e2e/test_real_nodes.py": ("isolation.kernel", "isolation.users", "isolation.launcher"),
    "tests/drivers/test_real_screens.py": (
        *("lifecycle.reboot", "lifecycle.reset", "lifecycle.vnc", "lifecycle.screenshot", "lifecycle.guest-agent"),
    ),
}
UNSEEN = {
    "a guest does not see how the host writes its image": ("disk.io", "disk.io-thread", "disk.io-threads-policy"),
    "it shows when an image fails": ("disk.error-policy",),
    "an image's format does not show through it": ("disk.format.qcow2",),
    "no SCSI device is there to be passed through; libvirt takes the domain": ("disk.lun",),
    "it is the absence of output": ("console.none",),
    "Linux uses neither unless it must": ("timer.pit", "timer.rtc"),
    "it shows to firmware alone": ("features.smm",),
}


def test_every_claim_is_seen_or_cannot_be() -> None:
    claimed = {id_ for id_, support in DRIVER.features.items() if support.verdict is Verdict.SUPPORTED}
    listed = [*SEEN, *(id_ for ids in (*ELSEWHERE.values(), *UNSEEN.values()) for id_ in ids)]
    assert len(listed) == len(set(listed)), "a feature is listed twice"
    assert set(listed) <= set(BY_ID)
    assert claimed - set(listed) == set()
    assert {id_ for id_ in listed if DRIVER.features[id_].verdict is Verdict.UNSUPPORTED} == set()
