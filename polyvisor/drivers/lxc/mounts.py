"""How a container's folders get the ids of its user namespace: through libvirt's hook, which is told by metadata.

The domain names places in the mount namespace of the launcher's daemon, which a container's first process may pass
through; before each start the hook mounts the folders there, their ids mapped (:mod:`polyvisor.launcher.mapped`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvisor.launcher.mapped import MAPPED, SHIFTED, SPACE

if TYPE_CHECKING:
    from lxml.etree import _Element

PLACES = "/var/lib/libvirt/filesystems"
"""One of the folders that a private daemon has to itself."""
HOOK = """\
#!/bin/sh
[ "$2" = prepare ] || exit 0
exec @PYTHON@ -I -S @LAUNCHER@/mapped.py "$@"
"""


def map_folders(domain: _Element, devices: _Element) -> None:
    """Have each folder of the node that a domain mounts be mounted by the hook first."""
    metadata = domain.makeelement("metadata", {})
    folders = metadata.makeelement(f"{{{SPACE}}}folders", {}, {"mapped": SPACE})  # libvirt keeps one of each namespace
    metadata.append(folders)
    found = (one.find("source") for one in devices.iterfind("filesystem[@type='mount']"))
    sources = [source for source in found if source is not None and not str(source.get("dir")).startswith("/dev/")]
    for number, source in enumerate(sources):
        place = f"{PLACES}/{number}"
        about = {"source": str(source.get("dir")), "place": place}
        if source.attrib.pop(SHIFTED, ""):
            about[SHIFTED] = "yes"
        folders.append(folders.makeelement(MAPPED, about))
        source.set("dir", place)
    if sources:
        domain.insert(2, metadata)


def unmap_folders(domain: _Element) -> None:
    """Name the folders themselves again, where a hook mounts them elsewhere."""
    sources = {one.get("place"): one.get("source", "") for one in domain.iter(MAPPED)}
    for source in domain.iterfind("devices/filesystem/source[@dir]"):
        if (place := source.get("dir")) in sources:
            source.set("dir", sources[place])
