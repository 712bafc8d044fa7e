"""``spec.configuration.tlsConfiguration``: what the listeners ask of those who connect, from the next connection on.

OpenSSL calls cipher suites by names of its own, and chooses itself among those of TLS 1.3, which are all strong. TLS
1.0 and 1.1 are not served: no distribution's OpenSSL does by default.
"""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING

from polyvisor.api.tls_ciphers import CIPHERS

if TYPE_CHECKING:
    from polyvisor.api import Obj
    from polyvisor.kube.informer import Informer

log = logging.getLogger("polyvisor.process")


def heed(kubevirts: Informer, *contexts: ssl.SSLContext) -> None:
    """Have servers' contexts follow the KubeVirt object."""
    defaults = [_suites(context) for context in contexts]

    def changed(_: Obj | None, new: Obj | None) -> None:
        configuration = ((new or {}).get("spec") or {}).get("configuration") or {}
        for context, suites in zip(contexts, defaults, strict=True):
            apply(context, configuration, suites)

    kubevirts.on_change(changed)


def apply(context: ssl.SSLContext, configuration: Obj, default: str = "DEFAULT") -> None:
    """Set a server's context as a configuration says; ``default`` are the suites where it names none that fit."""
    asked = configuration.get("tlsConfiguration") or {}
    newest = asked.get("minTLSVersion") == "VersionTLS13"
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if newest else ssl.TLSVersion.TLSv1_2
    named = asked.get("ciphers") or []
    fitting = [CIPHERS[name] for name in named if name in CIPHERS]
    if named and not fitting:
        context.minimum_version = ssl.TLSVersion.TLSv1_3  # with none of the suites that were named, TLS 1.2 has none
    try:
        context.set_ciphers(":".join(fitting) or default)
    except ssl.SSLError:
        log.error("tlsConfiguration.ciphers: OpenSSL has none of %s; its own are used", ", ".join(fitting))


def _suites(context: ssl.SSLContext) -> str:
    return ":".join(one["name"] for one in context.get_ciphers() if one["protocol"] != "TLSv1.3")
