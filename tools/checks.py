"""The project's own rules, which no common linter knows: ``checks.py names|length|lock|chains``.

A name of a hypervisor outside ``polyvisor/drivers`` means that some part decides by name what the drivers' table
should say. The exceptions are listed here, each with its reason, and nowhere else.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 400
LIST = ROOT / "polyvisor" / "api" / "_index.py"
"""A generated list of names, which is as long as there are names."""
NAMES = frozenset("qemu kvm lxc xen ch vbox virtualbox esx vmware hyperv openvz vz bhyve".split())
WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
"""The parts of an identifier or a text: ``QemuDriver``, ``libvirt_qemu`` and ``qemu-system`` all hold ``qemu``."""
NO_HYPERVISOR = re.compile(
    r"\bqemu[-_](img|utils)\b|\bQEMU_IMG\b|\borg\.qemu\.guest_agent\b|\bqemuGuestAgent\b|\bvirt_qemu_ga\w*|"
    r"\btimers\.hyperv\b|/dev/kvm\b"
)
"""A tool for disk images of all hypervisors and its package; the guest agent's channel, KubeVirt's field for it and
SELinux's switch for it; a field of KubeVirt's; a device of Linux."""
ALSO_FIELDS = {
    "polyvisor/adoption/compute.py": {"kvm"},
    "polyvisor/domain/compute.py": {"kvm", "hyperv"},
    "polyvisor/api/migrations.py": {"hyperv"},
    "polyvisor/api/node_names.py": {"kvm"},
}
"""Modules in which such a word is KubeVirt's field (``features.kvm``, ``clock.timer.kvm``), libvirt's element of that
field, or KubeVirt's resource of a node (``devices.kubevirt.io/kvm``)."""
CHAINS = 118
"""How many chains there are still; the number only falls."""
CHAIN = re.compile(r"or \{\}\)\.get\(")
"""A walk through a plain object, by which each caller answers a question for itself, a little otherwise each time."""
MAY_NAME = {
    "polyvisor/drivers/": "this is where they belong",
    "polyvisor/api/kubevirt/": "KubeVirt's own field names",
    "polyvisor/testing/examples.py": "KubeVirt's own field names",
    "polyvisor/api/_descriptions.py": "documentation of the API, with examples",
    "polyvisor/api/_index.py": "names of KubeVirt's types",
    "polyvisor/api/implemented.py": "names of KubeVirt's types",
}


def named(line: str, besides: Collection[str] = ()) -> str:
    """Return the first word of a line that is a hypervisor's name and not among ``besides``, empty if there is none."""
    words = WORDS.findall(NO_HYPERVISOR.sub("", line))
    return next((word for word in words if word.lower() in NAMES - set(besides)), "")


def names() -> Iterator[str]:
    """Find names of hypervisors outside the drivers."""
    for path in sorted((ROOT / "polyvisor").rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        if any(place.startswith(start) for start in MAY_NAME):
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if found := named(line, ALSO_FIELDS.get(place, ())):
                yield f"{place}:{number}: names {found!r}; what depends on a hypervisor belongs in polyvisor/drivers"


def length() -> Iterator[str]:
    """Find modules that have grown past one subject."""
    for folder in ("polyvisor", "tests", "tools", "bench"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            lines = len(path.read_text().splitlines())
            if lines > LONGEST and path != LIST:
                yield f"{path.relative_to(ROOT)}: {lines} lines, more than {LONGEST}: it has two subjects"


def chains(root: Path = ROOT, most: int = CHAINS) -> Iterator[str]:
    """Find more chains through plain objects than there were, or fewer than are noted."""
    found = {
        path.relative_to(root).as_posix(): count
        for path in sorted((root / "polyvisor").rglob("*.py"))
        if (count := len(CHAIN.findall(path.read_text())))
    }
    total = sum(found.values())
    if total > most:
        yield f"{total} chains of `or {{}}).get(`, and no more than {most} are accepted: ask polyvisor.machine or a"
        yield "typed model; for parts of a plain object there is polyvisor.api.reading. The chains are in:"
        yield from (f"  {path}: {count}" for path, count in found.items())
    elif total < most:
        yield f"{total} chains of `or {{}}).get(` are left, not {most}: set CHAINS = {total} in tools/checks.py"


def lock() -> Iterator[str]:
    """Find dependencies that the lock does not pin."""
    pinned = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for wanted in (
        *project["dependencies"],
        *(w for extra in project["optional-dependencies"].values() for w in extra),
    ):
        name = re.split(r"[^A-Za-z0-9._-]", wanted, maxsplit=1)[0].lower().replace("_", "-").replace(".", "-")
        if name not in pinned:
            yield f"{wanted} is in pyproject.toml but not in requirements.lock: run tools/lock"


def main() -> int:
    """Run one check."""
    checks: dict[str, Callable[[], Iterator[str]]] = {"names": names, "length": length, "lock": lock, "chains": chains}
    if len(sys.argv) != 2 or sys.argv[1] not in checks:
        sys.stderr.write(f"usage: checks.py {'|'.join(checks)}\n")
        return 2
    problems = list(checks[sys.argv[1]]())
    sys.stdout.write("".join(f"{problem}\n" for problem in problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
