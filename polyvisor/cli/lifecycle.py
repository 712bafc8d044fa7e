"""``start``, ``stop``, ``restart``, ``pause``, ``unpause``: KubeVirt's subresources, and waiting for their effect."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from polyvisor.api.reading import read_status
from polyvisor.api.resources import VMIS, VMS
from polyvisor.cli.client import Obj
from polyvisor.cli.context import Session
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.output import note, say
from polyvisor.kube.errors import ApiError

GROUP = "/apis/subresources.kubevirt.io/v1"
PLURALS = {
    "vm": "virtualmachines",
    "vms": "virtualmachines",
    "virtualmachine": "virtualmachines",
    "virtualmachines": "virtualmachines",
    "vmi": "virtualmachineinstances",
    "vmis": "virtualmachineinstances",
    "virtualmachineinstance": "virtualmachineinstances",
    "virtualmachineinstances": "virtualmachineinstances",
}


def subresource(namespace: str, plural: str, name: str, action: str) -> str:
    """Return the path of an action."""
    return f"{GROUP}/namespaces/{namespace}/{plural}/{name}/{action}"


def vm_action(session: Session, namespace: str, name: str, action: str, body: Obj, wait: bool, timeout: float) -> None:
    """Ask for ``start``, ``stop`` or ``restart`` of a VM."""
    name = _machine(name, ("virtualmachines",))[1]
    path = subresource(namespace, "virtualmachines", name, action)
    before = ""
    if wait and action == "restart":
        with suppress(ApiError):
            before = session.client.get(_vmi_path(namespace, name))["metadata"]["uid"]
    session.client.request("PUT", path, body)
    say(f"VM {name} was scheduled to {action}")
    if not wait or body.get("dryRun"):
        return
    if action == "stop":
        _wait(session, VMS.path(namespace), name, _is_stopped, "stop", timeout)
    else:
        _wait(
            session,
            VMIS.path(namespace),
            name,
            lambda vmi: (
                vmi is not None and vmi["metadata"]["uid"] != before and read_status(vmi).get("phase") == "Running"
            ),
            action,
            timeout,
        )


def _is_stopped(vm: Obj | None) -> bool:
    """Whether a VM has no instance and no request that is not done, so that it can be started."""
    return vm is None or not (read_status(vm).get("created") or read_status(vm).get("stateChangeRequests"))


def pause(session: Session, namespace: str, words: list[str], action: str, dry_run: bool) -> None:
    """Pause or unpause ``NAME``, ``vm NAME`` or ``vmi NAME``."""
    plural, name = machine_words(words, action)
    body: Obj = {"dryRun": ["All"]} if dry_run else {}
    if plural == "virtualmachines":
        session.client.get(f"/apis/kubevirt.io/v1/namespaces/{namespace}/virtualmachines/{name}")
    session.client.request("PUT", subresource(namespace, "virtualmachineinstances", name, action), body)
    say(f"{'VM' if plural == 'virtualmachines' else 'VMI'} {name} was scheduled to {action}")


def machine_words(words: list[str], action: str) -> tuple[str, str]:
    """Return plural and name of ``NAME``, ``vm NAME``, ``vmi NAME``, ``vm/NAME`` or ``vmi/NAME``."""
    if len(words) == 2:
        plural = PLURALS.get(words[0])
        if plural is None:
            raise CliError(f"{words[0]!r} is neither vm nor vmi", ExitCode.USAGE)
        return plural, words[1]
    if len(words) == 1:
        return _machine(words[0], ("virtualmachineinstances", "virtualmachines"))
    raise CliError(f"{action} takes [vm|vmi] NAME", ExitCode.USAGE)


def await_running(session: Session, namespace: str, name: str, seconds: float) -> None:
    """Wait until a machine runs; one that is over will not."""
    deadline = time.monotonic() + seconds
    selector = f"metadata.name={name}"
    while True:
        answer = session.client.get(_vmi_path(namespace), {"fieldSelector": selector})
        found = [read_status(item).get("phase") for item in answer.get("items") or []]
        if found and found[0] in ("Running", "Succeeded", "Failed"):
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise CliError(f"{name} does not run after {seconds:g} s", ExitCode.TIMEOUT)
        query = {"fieldSelector": selector, "resourceVersion": answer["metadata"]["resourceVersion"]}
        with suppress(TimeoutError):
            for event, _ in session.client.watch(_vmi_path(namespace), query, timeout=left):
                if event != "BOOKMARK":
                    break


def _machine(word: str, allowed: tuple[str, ...]) -> tuple[str, str]:
    kind, slash, name = word.rpartition("/")
    if not slash:
        return allowed[0], word
    plural = PLURALS.get(kind.split(".")[0])
    if plural not in allowed or not name:
        raise CliError(f"{word!r} is not the name of a machine", ExitCode.USAGE)
    return plural, name


def machine_name(word: str) -> str:
    """Return the name in ``demo``, ``vm/demo`` or ``vmi/demo``."""
    return _machine(word, ("virtualmachineinstances", "virtualmachines"))[1]


def _vmi_path(namespace: str, name: str = "") -> str:
    return f"/apis/kubevirt.io/v1/namespaces/{namespace}/virtualmachineinstances" + (f"/{name}" if name else "")


def _wait(session: Session, path: str, name: str, reached: Any, action: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    selector = f"metadata.name={name}"
    while True:
        answer = session.client.get(path, {"fieldSelector": selector})
        items = answer.get("items") or []
        if reached(items[0] if items else None):
            note(f"VM {name}: {action} done")
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise CliError(
                f"VM {name}: {action} was asked for, but is not done after {timeout:g} s",
                ExitCode.TIMEOUT,
                f"`polyvisor describe vm {name}` and `polyvisor describe vmi {name}` say what it waits for.",
            )
        query = {"fieldSelector": selector, "resourceVersion": answer["metadata"]["resourceVersion"]}
        with suppress(TimeoutError):
            for event, found in session.client.watch(path, query, timeout=left):
                if event != "BOOKMARK" and reached(None if event == "DELETED" else found):
                    note(f"VM {name}: {action} done")
                    return
