"""What tests of a standalone installation share; each module has its own ``home``."""

from __future__ import annotations

import pytest

from polyvisor.cli.client import Client
from polyvisor.kube.config import from_kubeconfig

from .standalone import Standalone


@pytest.fixture
def client(home: Standalone) -> Client:
    return Client(from_kubeconfig(home.kubeconfig))
