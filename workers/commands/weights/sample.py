"""The published feeds that a preview or a margin is taken of."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from workers.codec.feeds import FeedUnreadable, decode_feed, read_feed_identity
from workers.commands.options import KAFKA, cluster_of, settings
from workers.ranking.feed import Feed
from workers.settings import ConfigurationError
from workers.streaming.recent import Recent
from workers.streaming.records import Record

F = TypeVar("F", bound=Callable[..., Any])

_LAST = 1000
_UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


@dataclass(frozen=True)
class Sample:
    """Which feeds: the newest `last`, or all `since` (ms since the epoch), of the topic."""

    kafka: str | None
    kafka_config: str | None
    topic_feeds: str
    last: int | None
    since: int | None

    def feeds(self, surface: str) -> Iterator[Feed]:
        """The feeds of a surface, those of every arm. Raises ConfigurationError and Failures of
        Kafka.
        """
        if self.last is not None and self.since is not None:
            raise ConfigurationError("--last: given with --since, expected one of them")
        recent = Recent(cluster_of(self.kafka, self.kafka_config), self.topic_feeds)

        def wanted(record: Record) -> bool:
            published = read_feed_identity(record.value, record.headers)
            return published is not None and published.surface == surface

        found = (
            recent.last(self.last or _LAST, wanted)
            if self.since is None
            else recent.since(self.since)
        )
        for record in found:
            with suppress(FeedUnreadable):  # what is no feed of ours is no feed of the surface
                if wanted(record):
                    yield decode_feed(record.value, record.headers)


class _Moment(click.ParamType[int]):
    """A moment, as a length of time before now or in ISO 8601 (UTC where it does not say); ms since
    the epoch.
    """

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        length = re.fullmatch(r"([0-9]{1,9})([smhd])", value)
        if length:
            return time.time_ns() // 1_000_000 - int(length[1]) * _UNITS_MS[length[2]]
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(
                f"got {value!r}, expected a length of time such as 10m, or a moment such as 2026-01-31T18:30Z"
            )
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def sample_options(command: F) -> F:
    """--last, --since, and where the feeds are; `sample_of` makes of them a sample."""
    newest = click.option(
        "--last", type=click.IntRange(1), help=f"The newest so many feeds.  [default: {_LAST}]"
    )
    since = click.option(
        "--since", type=_Moment(), help="All feeds since then: 10m, 2h, 1d, or 2026-01-31T18:30Z."
    )
    return newest(since(settings(*KAFKA, "topic_feeds")(command)))


def sample_of(given: dict[str, Any]) -> Sample:
    """Take the sample's options out of those that were given."""
    return Sample(**{field.name: given.pop(field.name) for field in fields(Sample)})
