"""``python -m polyvisor.controllers``."""

from polyvisor.controllers.process import entry

entry()
