"""What libvirt says of an error, in as few words as there are."""

from __future__ import annotations

import re
from typing import Any

HOOK = re.compile(r"Hook script execution failed: .*? unexpected exit status \d+: (.+)", re.DOTALL)


def said(error: Any) -> str:
    """Return the message of a ``libvirtError``; where a hook refused a start, its own words alone.

    libvirt puts the hook's whole command before them, with the daemon's environment.
    """
    message = str(error.get_error_message() or error)
    found = HOOK.search(message)
    return found[1].strip() if found else message
