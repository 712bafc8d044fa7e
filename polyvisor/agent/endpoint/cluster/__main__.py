"""``python -m polyvisor.agent.endpoint.cluster``."""

from polyvisor.agent.endpoint.cluster.process import entry

entry()
