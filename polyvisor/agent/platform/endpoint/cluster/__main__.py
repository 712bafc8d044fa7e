"""``python -m polyvisor.agent.platform.endpoint.cluster``."""

from polyvisor.agent.platform.endpoint.cluster.process import entry

entry()
