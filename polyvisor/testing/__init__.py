"""The kit that proves a driver, for Polyvisor's own and for those of other packages. It needs pytest.

``DriverKit`` is the tests; ``corpus`` and ``example`` are the machines that it asks about, for tests of one's own;
``bench`` runs a real launcher. ``docs/writing-a-driver.md`` tells how they are used.
"""

import pytest

pytest.register_assert_rewrite("polyvisor.testing.kit", "polyvisor.testing.launching")

from polyvisor.testing.claims import claims  # noqa: E402
from polyvisor.testing.examples import Example, example  # noqa: E402
from polyvisor.testing.kit import DriverKit  # noqa: E402
from polyvisor.testing.launching import Bench, Client, bench  # noqa: E402
from polyvisor.testing.machines import EVIL, Case, askable, context_for, corpus, instance  # noqa: E402

__all__ = [
    "EVIL",
    "Bench",
    "Case",
    "Client",
    "DriverKit",
    "Example",
    "askable",
    "bench",
    "claims",
    "context_for",
    "corpus",
    "example",
    "instance",
]
