"""Two small models, made once."""

from pathlib import Path

import pytest

from tests.commands.running import write_models


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("commands"))
