"""``endpoint add``, ``show`` and ``remove``: the object, its Secret, and how its connection goes.

Secrets come from files or from standard input, never from the command line, which other users can see. The Secret
belongs to the endpoint, so that it goes with it.
"""

from __future__ import annotations

import base64
import re
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from polyvisor.api.names import KUBEVIRT_NAMESPACE
from polyvisor.api.node_names import ENDPOINT_LABEL
from polyvisor.api.reading import nested, read_status
from polyvisor.api.resources import ENDPOINTS, SECRETS
from polyvisor.cli.client import MERGE, Client, Obj
from polyvisor.cli.context import Context, Session
from polyvisor.cli.endpoint_usual import complete
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.output import Output, age, columns, print_structured, say
from polyvisor.kube.errors import ApiError
from polyvisor.standalone.state import running

LOCAL = "local"
MAX_NAME = 54
PASSING = ("", "Connecting", "SecretNotFound")
"""Reasons for not being ready that a new endpoint passes through."""
LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Credentials:
    """What was given to sign in with: keys of the Secret -> files; user name; the password's file, ``-`` for stdin."""

    files: Mapping[str, Path]
    username: str = ""
    password_file: str = ""

    def read(self) -> dict[str, str]:
        """Return the Secret's data, empty if nothing was given."""
        found: dict[str, bytes] = {}
        for key, path in self.files.items():
            found[key] = _read(path)
        if self.username:
            found["username"] = self.username.encode()
        if self.password_file == "-":
            found["password"] = sys.stdin.buffer.readline().rstrip(b"\r\n")
        elif self.password_file:
            found["password"] = _read(Path(self.password_file)).rstrip(b"\r\n")
        if found.get("password") == b"":
            raise CliError("password must not be empty", ExitCode.USAGE)
        return {key: base64.b64encode(value).decode() for key, value in found.items()}


def add(
    context: Context,
    uri: str,
    name: str,
    credentials: Credentials,
    *,
    insecure: bool,
    observe: bool,
    timeout: float,
    mapping: Obj,
) -> None:
    """Make endpoint and Secret, and wait until the host is connected or it is known why it is not.

    ``mapping`` are ``storage`` and ``networks`` of the spec; what it leaves out is looked for on the host.
    """
    data = credentials.read()
    here = context.kubeconfig_path() == context.state.kubeconfig
    if here and not (running(context.state.pid_file) or {}).get("ready"):
        from polyvisor.cli.host import up

        up(context, foreground=False, port=0, timeout=None)
    session = context.connect()
    client = session.client
    name = name or _free_name(client, uri)
    endpoint = _endpoint(name, uri, insecure=insecure, observe=observe, secret=bool(data))
    endpoint["spec"] |= mapping
    if here:  # one user, whose namespaces all are
        endpoint["spec"]["allowedNamespaces"] = {"selector": {}}
    if data:
        _with_secret(client, endpoint, data)
    else:
        client.request("POST", ENDPOINTS.path(), endpoint)
    _await(client, name, timeout)
    complete(client, name, cluster=not here)


def show(session: Session, name: str, output: Output) -> None:
    """Print one endpoint."""
    found = session.client.get(ENDPOINTS.path(name=name))
    if output in (Output.JSON, Output.YAML):
        print_structured(found, output)
        return
    if output == Output.NAME:
        say(f"{ENDPOINTS.full_name}/{name}")
        return
    status = found.get("status") or {}
    domains = status.get("domains") or {}
    capacity, left = status.get("capacity") or {}, status.get("allocatable") or {}
    rows = [
        ("Name:", name),
        ("URI:", found["spec"].get("uri", "")),
        ("Management:", found["spec"].get("management") or "Full"),
        ("Driver:", status.get("driver", "")),
        ("Host:", " ".join(filter(None, (status.get("hostName"), status.get("hostUUID"))))),
        ("Hypervisor:", status.get("hypervisorVersion", "")),
        ("libvirt:", status.get("libvirtVersion", "")),
        *(
            (f"{word}:", f"{capacity[key]}, of which {left.get(key)} can be used")
            for word, key in (("CPUs", "cpu"), ("Memory", "memory"))
            if capacity.get(key)
        ),
        ("Domains:", f"{domains['managed']} managed, {domains['foreign']} foreign" if domains else ""),
    ]
    for line in columns([row for row in rows if row[1]]):
        say(line)
    say("")
    conditions = status.get("conditions") or []
    if not conditions:
        say("No conditions yet: the agent has not looked at the endpoint.")
        return
    table = [["CONDITION", "STATUS", "SINCE", "REASON", "MESSAGE"]]
    for one in conditions:
        since = age(one.get("lastTransitionTime"))
        table.append([one["type"], one["status"], since, one.get("reason", ""), one.get("message", "")])
    for line in columns(table):
        say(line)
    for text in dict.fromkeys(one["suggestion"] for one in conditions if one.get("suggestion")):
        say(f"\nTo do: {text}")


def remove(session: Session, name: str) -> None:
    """Delete an endpoint; its Secret goes with it."""
    session.client.request("DELETE", ENDPOINTS.path(name=name))
    say(f"endpoint {name} removed; nothing changes on its host")


def condition(endpoint: Obj, kind: str = "Ready") -> Obj:
    """Return a condition of an endpoint, empty if it is not there yet."""
    conditions = read_status(endpoint).get("conditions") or []
    return next((one for one in conditions if one.get("type") == kind), {})


def not_ready(endpoint: Obj) -> CliError:
    """Return the error that says why an endpoint is not ready, since when, and what to do."""
    name, ready = endpoint["metadata"]["name"], condition(endpoint)
    if not ready:
        message = f"endpoint {name} has not been looked at yet"
        return CliError(message, ExitCode.NOT_RUNNING, "Is its agent running?")
    since = f", for {age(ready.get('lastTransitionTime'))}" if ready.get("lastTransitionTime") else ""
    message = f"endpoint {name} is not ready{since}: {ready.get('reason')}: {ready.get('message')}"
    return CliError(message, ExitCode.NOT_RUNNING, ready.get("suggestion", ""))


def _await(client: Client, name: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        found = client.get(ENDPOINTS.path(name=name))
        ready = condition(found)
        if ready.get("status") == "True":
            domains = read_status(found).get("domains") or {}
            number = domains.get("managed", 0) + domains.get("foreign", 0)
            host = found["status"].get("hostName", "")
            say(f"endpoint {name} added: {host or found['spec']['uri']} is connected and has {_count(number)}")
            return
        if ready.get("reason", "") not in PASSING:
            error = not_ready(found)
            hint = f"{error.hint} The endpoint stays; `polyvisor endpoint remove {name}` removes it."
            raise CliError(error.message, error.code, hint.strip())
        if time.monotonic() >= deadline:
            raise CliError(
                f"endpoint {name} was added and is not connected after {timeout:.0f} s",
                ExitCode.TIMEOUT,
                f"It is tried further: `polyvisor endpoint show {name}` tells how it goes.",
            )
        time.sleep(LOOK_SECONDS)


def _endpoint(name: str, uri: str, *, insecure: bool, observe: bool, secret: bool) -> Obj:
    spec: Obj = {"uri": uri}
    if secret:
        spec["credentials"] = {"secretRef": {"name": _secret_name(name)}}
    if insecure:
        spec["tls"] = {"insecure": "Allow"}
    if observe:
        spec["management"] = "Observe"
    return {"apiVersion": ENDPOINTS.api_version, "kind": ENDPOINTS.kind, "metadata": {"name": name}, "spec": spec}


def _with_secret(client: Client, endpoint: Obj, data: dict[str, str]) -> None:
    """Make an endpoint and its Secret, which is there first, as the agent looks for it at once; both or neither."""
    client.request("POST", ENDPOINTS.path(), endpoint, query={"dryRun": "All"})
    name = endpoint["metadata"]["name"]
    metadata = {"name": _secret_name(name), "labels": {ENDPOINT_LABEL: name}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}
    client.request("POST", SECRETS.path(KUBEVIRT_NAMESPACE), secret)
    path, made = SECRETS.path(KUBEVIRT_NAMESPACE, _secret_name(name)), ""
    try:
        made = client.request("POST", ENDPOINTS.path(), endpoint)["metadata"]["uid"]
        owner = {"apiVersion": ENDPOINTS.api_version, "kind": ENDPOINTS.kind, "name": name, "uid": made}
        client.request("PATCH", path, {"metadata": {"ownerReferences": [owner]}}, content_type=MERGE)
    except BaseException:
        for begun in (path, *([ENDPOINTS.path(name=name)] if made else [])):
            with suppress(ApiError):
                client.request("DELETE", begun)
        raise


def _secret_name(name: str) -> str:
    return f"endpoint-{name}"


def _free_name(client: Client, uri: str) -> str:
    """Return a name for an endpoint: its host's, or ``local``; with the scheme behind it where that is taken."""
    try:
        parts = urlsplit(uri)
        host = parts.hostname or ""
    except ValueError:
        return LOCAL
    word = host if re.fullmatch(r"[0-9a-fA-F.:]+", host) else host.partition(".")[0]
    base = re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-")[:MAX_NAME] or LOCAL
    taken = {one["metadata"]["name"]: one for one in client.get(ENDPOINTS.path()).get("items") or []}
    if base not in taken or nested(taken[base], "spec").get("uri") == uri:
        return base
    return f"{base}-{parts.scheme.partition('+')[0]}"[:MAX_NAME]


def _read(path: Path) -> bytes:
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror}", ExitCode.USAGE) from error


def _count(number: int) -> str:
    return "1 domain" if number == 1 else f"{number} domains"
