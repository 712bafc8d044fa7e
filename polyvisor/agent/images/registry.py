"""Images out of registries: pulled with skopeo, by digest, into OCI layouts of our own, one for each reference.

A reference is first turned into the digest that its tag has now, and that digest is what is pulled: so what lies here
is what was asked for, although a tag may move meanwhile. What isn't obvious: an image that was pulled with credentials
lies apart from the same image pulled without, or one namespace could use what only another one may read.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from polyvisor.agent.errors import AgentError, ImageError, translated
from polyvisor.agent.files import safepath, tools

SOURCE = "source.json"
TMP = "tmp."
KEPT_SECONDS = 7 * 24 * 3600.0
"""How long an image stays that nobody asked for."""
POLICY = Path("/etc/containers/policy.json")
_REFERENCE = re.compile(
    r"(?P<host>[A-Za-z0-9.-]+(?::[0-9]+)?)/(?P<name>[a-z0-9._/-]+)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_WORDS = (
    (("manifest unknown", "name unknown", "not found"), "the registry has no such image"),
    (
        ("unauthorized", "authentication required", "denied", "403 (forbidden)"),
        "the registry does not give it to us; name a Secret with credentials in imagePullSecret",
    ),
    (
        ("connection refused", "no such host", "i/o timeout", "no route to host", "server misbehaving", "unreachable"),
        "the registry cannot be reached",
    ),
    (
        ("gave http response to https client", "certificate", "tls:"),
        "the registry's certificate is not trusted, or it speaks plain HTTP; see insecureRegistries",
    ),
    (("digest did not match", "does not match", "unexpected digest"), "the digest does not match; refused"),
)
"""What skopeo says in passing, and what that means."""


@dataclass(frozen=True)
class Pull:
    """How an image may be had: Kubernetes' pull policy, and a Docker configuration with credentials."""

    policy: str = ""
    credentials: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Reference:
    """An image in a registry."""

    host: str
    name: str
    tag: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> Reference | None:
        """Read a reference; None if it names no registry, that is a host with a dot or a port."""
        found = _REFERENCE.fullmatch(text.removeprefix("docker://"))
        if found is None or not ("." in found["host"] or ":" in found["host"]):
            return None
        return cls(found["host"], found["name"], found["tag"] or "", found["digest"] or "")

    def __str__(self) -> str:
        if self.digest:
            return f"{self.host}/{self.name}@{self.digest}"
        return f"{self.host}/{self.name}:{self.tag or 'latest'}"

    def policy(self, given: str) -> str:
        """Return the pull policy: as with Kubernetes, what may change is looked up each time."""
        return given or ("Always" if not self.digest and self.tag in ("", "latest") else "IfNotPresent")


class Registries:
    """The images that were pulled to this node. Blocking; safe to use from threads."""

    def __init__(self, folder: Path, insecure: Callable[[], Collection[str]] = tuple) -> None:
        self.folder = folder
        self._insecure = insecure
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._guard = threading.Lock()

    def sweep(self) -> None:
        """Remove what an interrupted pull left half made. Only while nobody pulls."""
        for entry in self.folder.iterdir() if self.folder.is_dir() else ():
            if entry.name.startswith(TMP):
                safepath.sweep_path(entry)

    def layout(self, wanted: Reference, pull: Pull, architecture: str, progress: Callable[[str], None]) -> Path:
        """Return the OCI layout that holds the image, and nothing else; pull it if need be."""
        key = hashlib.sha256(f"{wanted}\n{architecture}\n".encode() + pull.credentials).hexdigest()
        place = self.folder / key
        with self._guard:
            lock = self._locks[key]
        with lock, translated(self.folder.parent, f"pulling image {wanted}"):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            had = (_source(place) or {}).get("digest", "")
            policy = wanted.policy(pull.policy)
            if had and policy != "Always":
                os.utime(place / SOURCE)
                return place
            if policy == "Never":
                raise ImageError(f"image {wanted} is not on this node, and imagePullPolicy is Never")
            with self._credentials(pull) as auth:
                digest = wanted.digest or self._digest(wanted, auth, architecture)
                if digest == had:
                    os.utime(place / SOURCE)
                    return place
                progress(f"pulling image {wanted}")
                self._copy(wanted, digest, auth, architecture, place)
            return place

    def slim(self, layout: Path, layers: Collection[str]) -> None:
        """Let go of layers that were unpacked; what describes the image stays."""
        for digest in layers:
            with suppress(FileNotFoundError):
                (layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).unlink()

    def forget(self, layout: Path) -> None:
        """Have the image pulled anew when it is asked for again."""
        if layout.parent == self.folder:
            safepath.remove_path(layout)

    def prune(self) -> list[str]:
        """Forget images that nobody asked for in a long time; return their references."""
        gone = []
        for place in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            with self._guard:
                lock = self._locks[place.name]
            with lock, suppress(OSError):
                source = _source(place)
                if source is not None and time.time() - (place / SOURCE).stat().st_mtime > KEPT_SECONDS:
                    self.forget(place)
                    gone.append(str(source.get("reference")))
        return gone

    def _digest(self, wanted: Reference, auth: list[str], architecture: str) -> str:
        """Return the digest that the reference has now."""
        command = ["inspect", "--raw", *auth, *self._tls(wanted, "--tls-verify"), f"docker://{wanted}"]
        return f"sha256:{hashlib.sha256(self._skopeo(command, wanted, architecture)).hexdigest()}"

    def _copy(self, wanted: Reference, digest: str, auth: list[str], architecture: str, place: Path) -> None:
        scratch = self.folder / f"{TMP}{secrets.token_hex(6)}"
        source = f"docker://{wanted.host}/{wanted.name}@{digest}"
        options = [
            *("--quiet", "--remove-signatures"),
            *self._tls(wanted, "--src-tls-verify"),
            *(option.replace("--authfile", "--src-authfile") for option in auth),
        ]
        try:
            self._skopeo(["copy", *options, source, f"oci:{scratch}"], wanted, architecture)
            told = {"reference": str(wanted), "digest": digest}
            safepath.write_atomic(scratch / SOURCE, json.dumps(told).encode())
            safepath.remove_path(place)
            scratch.rename(place)
        except BaseException:
            safepath.remove_path(scratch)
            raise

    def _tls(self, wanted: Reference, option: str) -> list[str]:
        return [f"{option}=false"] if wanted.host in self._insecure() else []

    def _skopeo(self, arguments: list[str], wanted: Reference, architecture: str) -> bytes:
        trusting = [] if POLICY.exists() else ["--insecure-policy"]
        command = ["skopeo", *trusting, "--override-os", "linux", "--override-arch", architecture, *arguments]
        try:
            return tools.output(command, f"pulling image {wanted}", self.folder)
        except AgentError as error:
            said = str(error).lower()
            for signs, meaning in _WORDS:
                if any(sign in said for sign in signs):
                    raise ImageError(f"image {wanted}: {meaning} ({_last(str(error))})") from None
            raise ImageError(str(error), retry=error.retry) from None

    @contextmanager
    def _credentials(self, pull: Pull) -> Iterator[list[str]]:
        """Give skopeo the credentials in a file that nobody else can read and that is gone afterwards."""
        if not pull.credentials:
            yield []
            return
        with tempfile.NamedTemporaryFile(prefix="polyvisor-auth-") as file:  # of mode 0600
            file.write(pull.credentials)
            file.flush()
            yield [f"--authfile={file.name}"]


def credentials(secret: Mapping[str, bytes], name: str) -> bytes:
    """Return the Docker configuration in a pull secret."""
    if text := secret.get(".dockerconfigjson"):
        return text
    if text := secret.get(".dockercfg"):
        return b'{"auths": ' + text + b"}"
    raise AgentError(f"Secret {name} for pulling images has no key .dockerconfigjson")


def _source(place: Path) -> dict[str, str] | None:
    try:
        found = json.loads((place / SOURCE).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _last(said: str) -> str:
    """Return what skopeo said last, without its way of logging."""
    found = re.search(r'msg="(.*)"', said)
    return (found[1] if found else said)[-300:]
