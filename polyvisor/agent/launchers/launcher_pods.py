"""Which Pod is a machine's launcher: the one that the controller recorded, and none that says so of itself.

Owner references and labels are claims of whoever made a Pod. What isn't obvious: ``status.activePods`` alone decides on
a kubelet's node, where a Pod's containers are anybody's. A virtual node starts the launchers itself, and its Pods are
recorded only once they run; there the namespace and the marks have to be right, which the API server lets nobody but
the controller write.
"""

from __future__ import annotations

from polyvisor.agent.launchers.processes import folder_id
from polyvisor.api import Obj
from polyvisor.api.names import APP_LABEL, CREATED_BY_LABEL, LAUNCHER_APP
from polyvisor.api.owners import controller_of, controller_uid
from polyvisor.api.reading import read_status
from polyvisor.api.resources import VMIS


def pod_id(pod: Obj) -> str:
    """Return the id of the Pod's folder."""
    return folder_id(pod["metadata"]["uid"])


def owner_uid(pod: Obj) -> str:
    """Return the uid of the machine that a Pod belongs to."""
    return controller_uid(pod, VMIS.kind)


def marked(pod: Obj, vmi: Obj) -> bool:
    """Whether a Pod bears the controller's marks of a machine's launcher, in the machine's namespace."""
    metadata, machine = pod["metadata"], vmi["metadata"]
    labels, owner = metadata.get("labels") or {}, controller_of(pod) or {}
    return (
        metadata.get("namespace") == machine.get("namespace")
        and owner.get("kind") == VMIS.kind
        and str(owner.get("apiVersion")).partition("/")[0] == VMIS.group
        and owner.get("uid") == machine["uid"]
        and labels.get(APP_LABEL) == LAUNCHER_APP
        and labels.get(CREATED_BY_LABEL) == machine["uid"]
    )


def recorded(pod: Obj, vmi: Obj) -> bool:
    """Whether a Pod is the one that the controller recorded for a machine, on the node that it recorded.

    A Pod that had no node when it was recorded is known by its uid alone: the scheduler binds it once and for all.
    """
    active = read_status(vmi).get("activePods") or {}
    node = pod["spec"].get("nodeName")
    return bool(node) and active.get(pod["metadata"]["uid"]) in (node, "") and marked(pod, vmi)
