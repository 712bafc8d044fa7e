"""What stops a lane."""

from __future__ import annotations


class LabError(Exception):
    """A lane cannot run; the text says why and what to do."""
