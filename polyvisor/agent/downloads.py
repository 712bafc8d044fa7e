"""Fetching an image over HTTP into a claim, as a DataVolume asks for it. Blocking."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx

from polyvisor.agent.errors import ImageError
from polyvisor.agent.incoming import Incoming

TIMEOUT = httpx.Timeout(20.0)
"""Seconds without a byte after which a server counts as gone; whoever gives an import up waits no longer either."""
MOST_REDIRECTS = 5


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
    auth = httpx.BasicAuth(request.user, request.password) if request.user or request.password else None
    headers = {"Accept-Encoding": "identity", **request.headers}
    try:
        context = ssl.create_default_context()
        if request.authorities:
            context.load_verify_locations(cadata=request.authorities)
        with (
            httpx.Client(
                verify=context, timeout=TIMEOUT, follow_redirects=True, max_redirects=MOST_REDIRECTS, trust_env=True
            ) as client,
            client.stream("GET", request.url, headers=headers, auth=auth) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise ImageError(
                    f"{into.called}: the server answers {response.status_code} {response.reason_phrase}".rstrip()
                )
            whole = int(response.headers.get("Content-Length") or 0)
            come = 0
            for chunk in response.iter_raw():
                into.write(chunk)
                come += len(chunk)
                if whole:
                    progress(min(1.0, come / whole))
    except ssl.SSLError as error:
        raise ImageError(f"{into.called}: the certificates in certConfigMap cannot be read: {error}") from None
    except httpx.InvalidURL as error:
        raise ImageError(f"{into.called}: {error}", retry=False) from None
    except httpx.HTTPError as error:
        raise ImageError(f"{into.called} cannot be fetched: {error or type(error).__name__}") from None
    into.finish()
