"""Between which topics a worker stands, and what they allow."""

from dataclasses import dataclass

from workers.codec.formats import Format


@dataclass(frozen=True)
class Route:
    """Topics, the format of feeds, and how many bytes a feed's value and a whole dead letter may have."""

    candidates: str
    feeds: str
    dead_letters: str
    feeds_format: Format
    most_feed_bytes: int
    most_letter_bytes: int
