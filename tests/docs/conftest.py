"""Environments for the tests that need a worker."""

from tests.rig.fixtures import env, make_env

__all__ = ["make_env", "env"]
