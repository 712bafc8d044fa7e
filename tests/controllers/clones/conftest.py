from __future__ import annotations

from tests.controllers.conftest import world as world
