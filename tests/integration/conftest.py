"""An environment for each test: topics, a group and files of its own on the shared servers."""

from tests.rig.fixtures import env, make_env

__all__ = ["env", "make_env"]
