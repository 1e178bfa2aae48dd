"""Servers for what runs outside of pytest: a stack of its own in a temporary folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from workers.local import Stack
from workers.settings import SETTINGS


class Servers(NamedTuple):
    """The addresses of servers that are up, the stack that they are of, and a folder for files."""

    kafka: str
    redis: str
    stack: Stack
    folder: Path


def user_cache() -> Path:
    """The user's own cache: Maven fetches Kafka once, not once a run."""
    setting = SETTINGS["cache"]
    return Path(os.environ.get(setting.variable) or str(setting.default)).expanduser()


@contextmanager
def started_servers() -> Iterator[Servers]:
    """A stack that is up. It is ended and deleted in any case."""
    with TemporaryDirectory(prefix="trimtab-rig-") as name:
        folder = Path(name)
        stack = Stack(folder, user_cache())
        try:
            addresses = stack.up()
            yield Servers(addresses.kafka, addresses.redis, stack, folder)
        finally:
            stack.down()
