"""``python -m polyvisor.agent``."""

from polyvisor.agent.process import entry

entry()
