"""How QEMU's probe decides: which guest is tried with which virt type, what is remembered, what is tried again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from polyvisor.drivers.memory import FILE
from polyvisor.drivers.qemu import boot_sector, probe
from polyvisor.drivers.trial import TrialError, Versions

CAPABILITIES = """<domainCapabilities><devices><video supported='yes'><enum name='modelType'>
<value>vga</value>{}<value>virtio</value></enum></video></devices></domainCapabilities>"""


class Host:
    """A host on which virt types run what they are said to run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kvm = True
        self.kernel: Path | None = None
        self.runs = {"kvm": {"linux", "own"}, "qemu": {"linux", "own"}}
        self.slow = 1.0
        self.opens = True
        self.asked_for_kernel = 0
        self.cards: str | None = None
        """What libvirt tells of graphics cards, if it tells anything."""
        self.tried: list[tuple[str, str]] = []
        host = self

        class Played:
            versions = Versions("7.2.0", "9.0.0")
            ended = False
            waited = 4.0

            def __init__(self, folder: Path, *_: object) -> None:
                self.folder = folder
                self.guest = self.virt_type = ""

            def __enter__(self) -> Played:
                if not host.opens:
                    raise TrialError("libvirt did not answer within 40 s", again=True)
                self.folder.mkdir(parents=True, exist_ok=True)
                return self

            def __exit__(self, *_: object) -> None:
                return

            def call(self, operation: str, **arguments: str) -> dict[str, Any]:
                if operation == "start":
                    self.virt_type = "kvm" if "<domain type='kvm'" in arguments["xml"] else "qemu"
                    self.guest = "linux" if "<kernel>" in arguments["xml"] else "own"
                    assert self.guest == "linux" or str(self.folder / "boot.img") in arguments["xml"]
                    host.tried.append((self.virt_type, self.guest))
                    return {}
                if host.cards is None:
                    raise TrialError("not told")
                return {"domain": CAPABILITIES.format(host.cards), "host": "<capabilities/>", "cpu": ""}

            def says(self, text: bytes, seconds: float) -> bool:
                assert text == (probe.BANNER if self.guest == "linux" else boot_sector.DONE)
                return self.guest in host.runs[self.virt_type]

            @property
            def slow(self) -> bool:
                return host.slow > 1.0

            def console(self) -> bytes:
                return b"boot sector: real mode\n"

        def find(_: Path) -> Path | None:
            self.asked_for_kernel += 1
            return self.kernel

        monkeypatch.setattr(probe, "Trial", Played)
        monkeypatch.setattr(probe, "find_kernel", find)
        monkeypatch.setattr(probe, "_kvm", lambda: self.kvm)


def kernel_at(folder: Path, content: bytes = b"kernel") -> Path:
    path = folder / "vmlinuz"
    path.write_bytes(content)
    return path


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


def test_without_any_kernel_the_boot_sector_proves_both(host: Host, tmp_path: Path) -> None:
    found = probe.probe(tmp_path)
    assert (found.available, found.virt_types, found.reason) == (True, ("kvm", "qemu"), "")
    assert sorted(host.tried) == [("kvm", "own"), ("qemu", "own")]


def test_a_kvm_that_stops_in_the_boot_sector_is_left_out_with_the_last_step(host: Host, tmp_path: Path) -> None:
    host.runs["kvm"] = set()
    found = probe.probe(tmp_path)
    assert found.virt_types == ("qemu",)
    assert found.reason == "kvm: the boot sector stopped after 'real mode' (waited 4 s)"
    assert not found.again


@pytest.mark.parametrize("runs", [{"linux"}, {"own"}])
def test_where_a_linux_kernel_is_there_it_decides_on_kvm(host: Host, tmp_path: Path, runs: set[str]) -> None:
    host.kernel, host.runs["kvm"] = kernel_at(tmp_path), runs
    found = probe.probe(tmp_path)
    assert sorted(host.tried) == [("kvm", "linux"), ("qemu", "own")]
    assert ("kvm" in found.virt_types) == ("linux" in runs)


def test_a_kernel_that_comes_later_is_tried(host: Host, tmp_path: Path) -> None:
    probe.probe(tmp_path)
    host.kernel, host.runs["kvm"] = kernel_at(tmp_path), {"own"}
    assert probe.probe(tmp_path).virt_types == ("qemu",)


def test_another_kernel_of_the_same_name_is_tried(host: Host, tmp_path: Path) -> None:
    host.kernel = kernel_at(tmp_path)
    probe.probe(tmp_path)
    host.tried.clear()
    host.kernel = kernel_at(tmp_path, b"another")
    probe.probe(tmp_path)
    assert ("kvm", "linux") in host.tried


def test_an_answer_holds_in_another_folder(host: Host, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    host.kernel = kernel_at(first)
    found = probe.probe(first)
    host.tried.clear()
    shutil.copytree(first, second)
    host.kernel = kernel_at(second)
    assert probe.probe(second) == found
    assert host.tried == []


def test_without_kvm_nobody_looks_for_a_kernel(host: Host, tmp_path: Path) -> None:
    host.kvm = False
    found = probe.probe(tmp_path)
    assert found.virt_types == ("qemu",)
    assert host.asked_for_kernel == 0
    assert "/dev/kvm" in found.reason


def test_an_answer_is_remembered(host: Host, tmp_path: Path) -> None:
    first = probe.probe(tmp_path)
    host.tried.clear()
    assert probe.probe(tmp_path) == first
    assert host.tried == []


def test_silence_on_a_slow_machine_is_no_answer(host: Host, tmp_path: Path) -> None:
    host.runs, host.slow = {"kvm": set(), "qemu": set()}, 8.0
    found = probe.probe(tmp_path)
    assert (found.available, found.again) == (False, True)
    assert not (tmp_path / FILE).exists()
    host.runs = {"kvm": {"own"}, "qemu": {"own"}}
    assert probe.probe(tmp_path).virt_types == ("kvm", "qemu")


def test_silence_on_kvm_is_one_where_emulation_which_is_slower_was_heard(host: Host, tmp_path: Path) -> None:
    host.runs["kvm"], host.slow = set(), 8.0
    found = probe.probe(tmp_path)
    assert (found.virt_types, found.again) == (("qemu",), False)
    assert (tmp_path / FILE).exists()


def test_a_libvirt_that_is_too_slow_is_worth_another_try(host: Host, tmp_path: Path) -> None:
    host.opens = False
    found = probe.probe(tmp_path)
    assert (found.available, found.again) == (False, True)
    assert "did not answer" in found.reason


@pytest.mark.parametrize(
    ("cards", "facts"), [(None, set()), ("", set()), ("<value>qxl</value><value>none</value>", {"video.qxl"})]
)
def test_a_graphics_card_that_not_every_qemu_has_is_there_if_libvirt_says_so(
    host: Host, tmp_path: Path, cards: str | None, facts: set[str]
) -> None:
    host.cards = cards
    assert probe.probe(tmp_path).facts & {"video.qxl"} == facts


def test_an_answer_is_found_anew_when_a_module_of_qemus_comes(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "MODULES", ())
    host.cards = ""
    assert "video.qxl" not in probe.probe(tmp_path).facts
    host.cards = "<value>qxl</value>"
    assert "video.qxl" not in probe.probe(tmp_path).facts
    monkeypatch.setattr(probe, "MODULES", ("bin/sh",))
    assert "video.qxl" in probe.probe(tmp_path).facts
