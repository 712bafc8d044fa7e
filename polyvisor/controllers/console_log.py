"""The container whose log is what a guest writes to its serial console.

Whoever ends the Pod asks every process of it to end, the moment the machine is over; but ``tail`` looks only once a
second, and the last lines of a guest are those that tell most. So ``tail`` does not hear of the end, and its shell
waits until it has read all that there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvisor.api import names
from polyvisor.controllers.pod_volumes import RESTRICTED

if TYPE_CHECKING:
    from polyvisor.api import Obj

SCRIPT = """
behind() {
    [ -e "$0" ] || return 1
    [ "/proc/$tail/fd/3" -ef "$0" ] || return 0
    read -r _ at <"/proc/$tail/fdinfo/3"
    [ "$at" -lt "$(/bin/busybox stat -c %s "$0")" ]
}
finish() {
    tail=$!  # here, as the end may come before the line after the one that starts it
    while kill -0 "$tail" && behind; do
        late=1
        /bin/busybox sleep 0.1
    done
    [ "$late" ] && /bin/busybox sleep 0.3
    kill -KILL "$tail"
    exit 0
}
trap finish TERM
(trap "" TERM; exec /bin/busybox tail -n +1 -F "$0" 2>/dev/null) &
wait
"""


def console_log(launcher_image: str, resources: Obj, *, privileged: bool) -> Obj:
    """Return the container; with ``privileged`` it has the user that a launcher with rights writes as."""
    rootly = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {
        "name": names.CONSOLE_CONTAINER,
        "image": launcher_image,
        "command": ["/bin/busybox", "sh", "-c", SCRIPT, f"{names.LAUNCHER_FOLDER}/console.log"],
        "volumeMounts": [{"name": names.LAUNCHER_VOLUME, "mountPath": names.LAUNCHER_FOLDER, "readOnly": True}],
        "resources": resources,
        "securityContext": {**(rootly if privileged else RESTRICTED), "readOnlyRootFilesystem": True},
    }
