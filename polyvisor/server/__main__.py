"""``python -m polyvisor.server``."""

from polyvisor.server.process import entry

entry()
