"""The commands that steer, on a real Redis, with steering threads as workers have them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.commands.running import Ended, trimtab, write_surfaces
from tests.rig.redis import RedisServer
from tests.steering.conftest import events, server, steer, stopped_server

__all__ = ["events", "server", "steer", "stopped_server", "run", "surfaces"]


@pytest.fixture
def surfaces(tmp_path: Path) -> Path:
    """Describes `home` and `search`."""
    return write_surfaces(tmp_path, search=True)


@pytest.fixture
def run(stopped_server: RedisServer, surfaces: Path) -> Callable[..., Ended]:
    """Run a command on the server, as the actor `ana`."""
    settings = {
        "TRIMTAB_REDIS": stopped_server.url,
        "TRIMTAB_SURFACES": str(surfaces),
        "TRIMTAB_ACTOR": "ana",
    }

    def run(*words: object, **more: Any) -> Ended:
        return trimtab(*words, **(settings | more))

    return run
