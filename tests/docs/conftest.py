"""Worlds for the tests that need a worker."""

from tests.integration.conftest import make_world, world

__all__ = ["make_world", "world"]
