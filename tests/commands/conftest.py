"""Two small models, made once, and worlds for the tests that need a worker."""

from pathlib import Path

import pytest

from tests.commands.running import write_models
from tests.integration.conftest import make_world, world

__all__ = ["make_world", "models", "world"]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("commands"))
