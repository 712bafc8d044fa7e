"""``credentials``: SSH keys and passwords in the Secrets that a machine's ``accessCredentials`` name.

The guest's agent follows those Secrets, so that a change of one reaches a running guest; a Secret that is new to the
machine is one of its template, and holds from the next start. A Secret that is not the machine's own may serve others
too, and is changed with ``--force`` alone.
"""

from __future__ import annotations

import base64
import secrets as random
from pathlib import Path
from typing import Any

from polyvisor.api.reading import nested
from polyvisor.api.resources import SECRETS, VMIS, VMS
from polyvisor.cli.client import MERGE, Client
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.output import say
from polyvisor.kube.errors import ApiError

Obj = dict[str, Any]


def key_of(file: str, value: str) -> str:
    """Return the public key that was given in one of two ways."""
    if bool(file) == bool(value):
        raise CliError("give one of --file, --value", ExitCode.USAGE)
    try:
        key = (value or Path(file).read_text()).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{file}: {error}", ExitCode.USAGE) from error
    if len(key.split()) < 2 or "\n" in key:
        raise CliError("this is no public key of one line: TYPE KEY [COMMENT]", ExitCode.USAGE)
    return key


class Credentials:
    """The credentials of one VirtualMachine."""

    def __init__(self, client: Client, namespace: str, name: str, *, force: bool) -> None:
        self._client = client
        self._namespace = namespace
        self._force = force
        self._path = VMS.path(namespace, name)
        self._vm = client.get(self._path)
        self._name = name

    def add_key(self, user: str, key: str, secret: str, *, create: bool, update: bool) -> None:
        """Put a key into a Secret of the user's, or into a new one."""
        if create and update:
            raise CliError("give one of --create-secret, --update-secret", ExitCode.USAGE)
        known = self._key_secrets(user)
        if create or (not known and not update):
            self._new_secret(user, key)
            return
        if not known:
            raise CliError(f"no Secret with keys of {user} is named by {self._name}; --create-secret makes one")
        found = self._own(_chosen(secret, known))
        if any(_same(line, key) for text in _texts(found).values() for line in text.splitlines()):
            say(f"Secret {_name(found)} has this key already.")
            return
        self._change(found, {_entry(): key})
        say(f"The key was added to Secret {_name(found)}.")

    def remove_key(self, user: str, key: str, secret: str) -> None:
        """Take a key out of the user's Secrets."""
        known = self._key_secrets(user)
        if not known:
            raise CliError(f"no Secret with keys of {user} is named by {self._name}")
        for name in [_chosen(secret, known)] if secret else known:
            found = self._own(name)
            change: dict[str, str | None] = {}
            for entry, text in _texts(found).items():
                kept = [line for line in text.splitlines() if line.strip() and not _same(line, key)]
                if len(kept) < len([line for line in text.splitlines() if line.strip()]):
                    change[entry] = "\n".join(kept) or None
            if change:
                self._change(found, change)
                say(f"The key was taken out of Secret {name}.")
            else:
                say(f"Secret {name} does not have this key.")

    def set_password(self, user: str, password: str, secret: str) -> None:
        """Put a user's password into a Secret of the machine's."""
        known = [
            one["userPassword"]["source"]["secret"]["secretName"]
            for one in self._credentials()
            if one.get("userPassword")
        ]
        if not known:
            raise CliError(f"{self._name} names no Secret with passwords (accessCredentials, userPassword)")
        found = self._own(_chosen(secret, known))
        self._change(found, {user: password})
        say(f"The password of {user} was set in Secret {_name(found)}.")

    def _credentials(self) -> list[Obj]:
        return list(self._vm["spec"]["template"]["spec"].get("accessCredentials") or [])

    def _key_secrets(self, user: str) -> list[str]:
        """Return the Secrets whose keys the guest's agent gives to a user."""
        found = []
        for one in self._credentials():
            keys = one.get("sshPublicKey") or {}
            if user in nested(keys, "propagationMethod", "qemuGuestAgent").get("users", []):
                found.append(keys["source"]["secret"]["secretName"])
        return found

    def _own(self, name: str) -> Obj:
        found = self._client.get(SECRETS.path(self._namespace, name))
        owners = found["metadata"].get("ownerReferences") or []
        if not self._force and not any(one.get("uid") == self._vm["metadata"]["uid"] for one in owners):
            raise CliError(f"Secret {name} does not belong to {self._name} alone; --force changes it all the same")
        return found

    def _change(self, secret: Obj, entries: dict[str, Any]) -> None:
        data = {name: None if text is None else _encoded(text) for name, text in entries.items()}
        version = {"metadata": {"resourceVersion": secret["metadata"]["resourceVersion"]}}
        self._client.request(
            "PATCH", SECRETS.path(self._namespace, _name(secret)), {**version, "data": data}, content_type=MERGE
        )

    def _new_secret(self, user: str, key: str) -> None:
        if not self._force and self._runs():
            raise CliError(f"{self._name} runs, and would have the new Secret after a restart only; --force makes it")
        metadata = self._vm["metadata"]
        owner = {"apiVersion": VMS.api_version, "kind": VMS.kind, "name": self._name, "uid": metadata["uid"]}
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"generateName": f"{self._name}-ssh-key-", "ownerReferences": [{**owner, "controller": True}]},
            "data": {_entry(): _encoded(key)},
        }
        made = _name(self._client.request("POST", SECRETS.path(self._namespace), secret))
        credential = {
            "sshPublicKey": {
                "source": {"secret": {"secretName": made}},
                "propagationMethod": {"qemuGuestAgent": {"users": [user]}},
            }
        }
        spec = {"template": {"spec": {"accessCredentials": [*self._credentials(), credential]}}}
        version = {"resourceVersion": metadata["resourceVersion"]}
        try:
            self._client.request("PATCH", self._path, {"metadata": version, "spec": spec}, content_type=MERGE)
        except ApiError:
            self._client.request("DELETE", SECRETS.path(self._namespace, made))
            raise
        say(f"Secret {made} was made, and {self._name} names it from its next start on.")

    def _runs(self) -> bool:
        try:
            self._client.get(VMIS.path(self._namespace, self._name))
        except ApiError as error:
            if not error.not_found:
                raise
            return False
        return True


def _chosen(wanted: str, known: list[str]) -> str:
    if wanted and wanted not in known:
        raise CliError(f"the machine does not name Secret {wanted} for this; it names {', '.join(known)}")
    return wanted or known[0]


def _texts(secret: Obj) -> dict[str, str]:
    data = secret.get("data") or {}
    return {entry: base64.b64decode(text).decode(errors="replace") for entry, text in data.items()}


def _same(line: str, key: str) -> bool:
    """Whether two lines are one key, whatever their comments."""
    return line.split()[:2] == key.split()[:2]


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _entry() -> str:
    return f"ssh-key-{random.token_hex(3)}"


def _name(obj: Obj) -> str:
    return str(obj["metadata"]["name"])
