"""Two small models, made once, and environments for the tests that need a worker."""

from pathlib import Path

import pytest

from tests.commands.running import write_models
from tests.rig.fixtures import env, make_env

__all__ = ["make_env", "models", "env"]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("commands"))
