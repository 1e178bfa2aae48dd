"""Programs that the tests of this folder share."""

from pathlib import Path

import pytest

from tests.deploy.programs import Programs, install_programs


@pytest.fixture(scope="session")
def programs(cache: Path) -> Programs:
    """Prometheus, promtool and Debian's redis-server. Fails if they cannot be had."""
    return install_programs(cache / "deploy-programs")
