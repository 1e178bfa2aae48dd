"""Between which topics a worker stands."""

from dataclasses import dataclass

from workers.codec.formats import Format


@dataclass(frozen=True)
class Route:
    """The topics, and the format in which feeds are published."""

    candidates: str
    feeds: str
    dead_letters: str
    feeds_format: Format
