"""Fetching an image over HTTP into a claim, as a DataVolume asks for it. Blocking.

A connection that is cut is taken up again where it was (``Range``), as long as the server vouches that the file is
still the same one: by a strong ``ETag``, or by its date (``If-Range``). What is written is a stream, so a server that
begins anew cannot be followed; then the import fails, and the next try begins anew too. Redirects are followed here and
not by the client, which would carry a user's own headers, API keys among them, to whatever host a server names.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import httpx

from polyvisor.agent.errors import ImageError
from polyvisor.agent.imports.incoming import Incoming

TIMEOUT = httpx.Timeout(20.0)
"""Seconds without a byte after which a server counts as gone; whoever gives an import up waits no longer either."""
MOST_REDIRECTS = 5
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before a cut connection is taken up again, longer while nothing comes; then it is given up."""
CUT = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.TimeoutException)


@dataclass(frozen=True, repr=False)
class Request:
    """What to fetch, and how; its repr shows nothing of it, since it may hold credentials."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    password: str = ""
    authorities: str = ""
    """Certificates of authorities to trust beside the system's, in PEM."""


def download(request: Request, into: Incoming, progress: Callable[[float], None]) -> None:
    """Fetch and hand over; ``progress`` is told how much has come, from 0 to 1, where the server says how much is."""
    fetching = _Fetching(request, into, progress)
    try:
        context = ssl.create_default_context()
        if request.authorities:
            context.load_verify_locations(cadata=request.authorities)
        with httpx.Client(verify=context, timeout=TIMEOUT, follow_redirects=False, trust_env=True) as client:
            fetching.all(client)
    except ssl.SSLError as error:
        raise ImageError(f"{into.called}: the certificates in certConfigMap cannot be read: {error}") from None
    except httpx.InvalidURL as error:
        raise ImageError(f"{into.called}: {error}", retry=False) from None
    except httpx.HTTPError as error:
        come = f" after {fetching.come} bytes" if fetching.come else ""
        raise ImageError(f"{into.called} cannot be fetched{come}: {error or type(error).__name__}") from None
    into.finish()


class _Fetching:
    """One file on its way, over as many connections as it takes."""

    def __init__(self, request: Request, into: Incoming, progress: Callable[[float], None]) -> None:
        self.come = 0
        self._request = request
        self._into = into
        self._progress = progress
        self._whole = 0
        self._same = ""
        """What the server knows this very file by."""

    def all(self, client: httpx.Client) -> None:
        tries = 0
        while True:
            before = self.come
            try:
                self._some(client)
                return
            except CUT:
                tries = 1 if self.come > before else tries + 1
                if not self._same or not self.come or tries > len(PAUSES):
                    raise
            self._into.pause(PAUSES[tries - 1])

    def _some(self, client: httpx.Client) -> None:
        url = httpx.URL(self._request.url)
        for _ in range(MOST_REDIRECTS + 1):
            with self._asked(client, url) as response:
                if response.next_request is None:
                    self._take(response)
                    return
                url = response.next_request.url
        raise httpx.TooManyRedirects(f"more than {MOST_REDIRECTS} redirects")

    def _asked(self, client: httpx.Client, url: httpx.URL) -> AbstractContextManager[httpx.Response]:
        """Ask for the file; what the user gave to be sent is for the server that the user named, and for no other."""
        given = self._request
        headers, auth = {"Accept-Encoding": "identity"}, None
        if _origin(url) == _origin(httpx.URL(given.url)):
            headers |= given.headers
            auth = httpx.BasicAuth(given.user, given.password) if given.user or given.password else None
        if self.come:
            headers |= {"Range": f"bytes={self.come}-", "If-Range": self._same}
        return client.stream("GET", url, headers=headers, auth=auth)

    def _take(self, response: httpx.Response) -> None:
        self._begin(response)
        for chunk in response.iter_raw():
            self._into.write(chunk)
            self.come += len(chunk)
            if self._whole:
                self._progress(min(1.0, self.come / self._whole))

    def _begin(self, response: httpx.Response) -> None:
        called = self._into.called
        if self.come:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {self.come}-"):
                what = f"the connection was cut after {self.come} bytes, and the server does not go on from there"
                raise ImageError(f"{called}: {what} ({response.status_code})")
            return
        if response.status_code != httpx.codes.OK:
            raise ImageError(f"{called}: the server answers {response.status_code} {response.reason_phrase}".rstrip())
        self._whole = int(response.headers.get("Content-Length") or 0)
        tag = response.headers.get("ETag", "")
        self._same = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)
