"""`trimtab outcomes replay open-bandit`: real clicks through real topics and the real join.

1. Create topics of its own. If one exists, the replay was done before: counts would be wrong.
2. Write each impression as a feed record, followed by its interactions.
3. Run the join in a process of its own until every feed is in the sums, then let it drain.
4. Compare the sums with a direct count of the file.
"""

import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import click

from workers.codec.feed_records import encode_feed_record, feed_record_headers
from workers.codec.formats import Format, Headers
from workers.codec.interactions import encode_interaction
from workers.codec.outcomes import decode_feed_outcomes
from workers.commands.options import BrokersAt, brokers_options, example
from workers.commands.outcomes.open_bandit import (
    CAMPAIGNS,
    POLICIES,
    ArmCount,
    Impression,
    count_directly,
    feed_of,
    interactions_of,
    read_impressions,
    surfaces_toml,
)
from workers.commands.text import table
from workers.errors import Failure
from workers.local.topics import stack_topics
from workers.outcomes.counts import GroupBy, count_by
from workers.settings import SETTINGS
from workers.streaming.clients import ADMIN, SENDER, Cluster
from workers.streaming.feed_sums import FeedSumsReader
from workers.streaming.log_reader import TopicReader
from workers.streaming.send import Sender
from workers.streaming.topics import create_topics, describe_topics

_PARTITIONS = 4
_TOPICS = (
    "topic_interactions",
    "topic_interaction_letters",
    "topic_request_outcomes",
    "topic_feed_outcomes",
)
_PATIENCE_S = 60.0
"""How long the sums may stay the same before the join is given up."""
_END_SECONDS = 15.0
_LOG_LINES = 20


@dataclass(frozen=True)
class Replay:
    """Where a replay happens. `topics` has the topic of each setting."""

    brokers: BrokersAt
    cluster: Cluster
    topics: Mapping[str, str]
    group: str

    @classmethod
    def named(cls, name: str, brokers: BrokersAt) -> "Replay":
        """Topics and group that begin with `name`."""
        topics = {setting: f"{name}.{SETTINGS[setting].default}" for setting in _TOPICS}
        return cls(brokers, brokers.cluster(ADMIN, SENDER), topics, f"{name}-outcomes")

    def create_topics(self) -> None:
        """Create the topics, configured as the local stack's. Raises Failure if one exists."""
        bootstrap = self.cluster.bootstrap
        properties = self.cluster.properties
        existing = describe_topics(bootstrap, self.topics.values(), properties)
        if existing:
            raise Failure(
                f"topic {next(iter(existing))!r} exists already, expected topics that only this"
                " replay writes to. Give another --name, or read the counts of that replay:"
                f" {shlex.join(self.counts_command(CAMPAIGNS[0]))}"
            )

        plans = []
        by_default_name = {plan.name: plan for plan in stack_topics(_PARTITIONS)}
        for setting, topic in self.topics.items():
            plans.append(replace(by_default_name[str(SETTINGS[setting].default)], name=topic))
        create_topics(bootstrap, plans, properties)

    def send(self, impressions: Iterable[Impression]) -> int:
        """Write all records. Returns how many."""
        sender = Sender.to(self.cluster, self.topics["topic_interactions"])
        feed_headers = feed_record_headers(Format.JSON)
        headers: Headers = [("content-type", Format.JSON.content_type)]
        for impression in impressions:
            feed = feed_of(impression)
            key = feed.request_id.encode()
            sender.send(key, encode_feed_record(feed, Format.JSON), feed_headers)
            for interaction in interactions_of(impression, feed, time.time_ns() // 1_000_000):
                sender.send(key, encode_interaction(interaction), headers)
        sender.finish()
        return sender.sent

    def join_command(self, surfaces: Path) -> list[str]:
        """The command that joins these topics."""
        options = [*self._kafka_options(), "--surfaces", str(surfaces)]
        for setting, topic in self.topics.items():
            options += [SETTINGS[setting].flag, topic]
        options += [SETTINGS["outcomes_group"].flag, self.group]
        return [sys.executable, "-m", "workers.cli", "outcomes", "join", *options]

    def counts_command(self, surface: str, *options: str) -> list[str]:
        """The command that shows the counts of a surface."""
        topic = [SETTINGS["topic_feed_outcomes"].flag, self.topics["topic_feed_outcomes"]]
        words = ["trimtab", "outcomes", "counts", surface, *options]
        return [*words, *topic, *self._kafka_options()]

    def tail_command(self) -> list[str]:
        """The command that shows what became of single feeds."""
        topic = [SETTINGS["topic_request_outcomes"].flag, self.topics["topic_request_outcomes"]]
        words = ["trimtab", "outcomes", "tail", "--from-beginning", "--count", "3"]
        return [*words, *topic, *self._kafka_options()]

    def _kafka_options(self) -> list[str]:
        options = [SETTINGS["kafka"].flag, self.cluster.bootstrap]
        if self.brokers.properties_file is not None:
            options += [SETTINGS["kafka_config"].flag, str(self.brokers.properties_file)]
        return options


@click.command(
    epilog=example(
        "trimtab outcomes replay open-bandit", "trimtab outcomes replay open-bandit --name again"
    )
)
@click.argument("data", type=click.Choice(["open-bandit"]))
@brokers_options
@click.option(
    "--name",
    metavar="NAME",
    help="What the names of the topics and of the group begin with.  [default: that of the data]",
)
def replay(data: str, brokers: BrokersAt, name: str | None) -> None:
    """Play recorded impressions and clicks through the join.

    open-bandit: 60,000 impressions of a fashion shop, two policies on three campaigns. An
    impression becomes a feed of one item, the campaign its surface, and the policy its arm. The
    topics stay, so that the counts can be read afterwards. Exit code 1 if the sums are not exactly
    what the file says.
    """
    running = Replay.named(name or data, brokers)
    impressions = list(read_impressions())
    expected = count_directly(impressions)

    running.create_topics()
    _report(f"created {', '.join(running.topics.values())}")
    sent = running.send(impressions)
    _report(f"sent {len(impressions):,} feeds and {sent - len(impressions):,} interactions")
    with _join(running) as join:
        _report("joining; the last feeds close one window after they were sent")
        wait_for_feeds(running, join, len(impressions))

    counted = count_arms(running)
    click.echo("\n".join(comparison(expected, counted)))
    if counted != expected:
        raise Failure("the sums are not what the file says: see the dead letters in the topics")
    click.echo("\nEvery count is what the file says. To read the counts:")
    click.echo(f"  {shlex.join(running.counts_command('men', '--by', 'arm'))}")
    click.echo(f"  {shlex.join(running.counts_command('men', '--by', 'position'))}")
    click.echo(f"  {shlex.join(running.tail_command())}")


def _report(line: str) -> None:
    click.echo(line, err=True)


class JoinProcess:
    """The join as a process of its own, whose log goes to a file."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
            )

    def check(self) -> None:
        """Raises Failure with the last lines of the log if the process has ended."""
        code = self._process.poll()
        if code is not None:
            raise self.failure(f"the join ended with exit code {code}")

    def failure(self, why: str) -> Failure:
        """An error with the last lines of the log."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return Failure("\n".join([f"{why}. Its log ends with:", *lines[-_LOG_LINES:]]))

    def drain(self) -> None:
        """Let it drain. Raises Failure with the last lines of the log if it does not end well."""
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            raise self.failure(f"the join did not drain within {_END_SECONDS:g} s") from None
        if code:
            raise self.failure(f"the join drained with exit code {code}")

    def kill(self) -> None:
        """End it if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@contextmanager
def _join(running: Replay) -> Iterator[JoinProcess]:
    """Run the join while the block runs, and let it drain behind it."""
    with tempfile.TemporaryDirectory(prefix="trimtab-replay-") as folder:
        surfaces = Path(folder, "surfaces.toml")
        surfaces.write_text(surfaces_toml(), encoding="utf-8")
        process = JoinProcess(running.join_command(surfaces), Path(folder, "join.log"))
        try:
            yield process
            process.drain()
        finally:
            process.kill()


def wait_for_feeds(running: Replay, join: JoinProcess, expected: int) -> None:
    """Wait until the sums hold that many feeds. Raises Failure if the join ends before, or if the
    sums stay the same for a minute.
    """
    feeds: dict[tuple[int, bytes | None], int] = {}
    changed_at = time.monotonic()
    topic = running.topics["topic_feed_outcomes"]
    with closing(TopicReader(running.cluster, topic, from_beginning=True)) as reader:
        while sum(feeds.values()) < expected:
            for record in reader.records(follow=True, timeout=0.5):
                sums = decode_feed_outcomes(record.value, record.headers).sums
                feeds[record.partition, record.key] = sum(
                    cluster.feeds for cluster in sums.clusters.values()
                )
                changed_at = time.monotonic()
                if sum(feeds.values()) >= expected:
                    return
            join.check()
            if time.monotonic() - changed_at > _PATIENCE_S:
                closed = f"{sum(feeds.values()):,} of {expected:,} feeds"
                raise join.failure(f"the join closed {closed} and none for {_PATIENCE_S:g} s")


def count_arms(running: Replay) -> dict[tuple[str, str], ArmCount]:
    """What the sums say, by campaign and policy."""
    counted = {}
    with closing(FeedSumsReader(running.cluster, running.topics["topic_feed_outcomes"])) as reader:
        reader.read_to_end()
        for campaign in CAMPAIGNS:
            sums = [(outcomes.key, outcomes.sums) for outcomes in reader.latest(campaign)]
            for row in count_by(GroupBy.ARM, sums):
                counted[campaign, str(row.label)] = ArmCount(row.seen, row.takes)
    return counted


def comparison(
    expected: Mapping[tuple[str, str], ArmCount], counted: Mapping[tuple[str, str], ArmCount]
) -> list[str]:
    """A table of what the join counted beside what the file says."""
    rows = [["surface", "arm", "seen", "takes", "impressions", "clicks"]]
    for campaign in CAMPAIGNS:
        for policy in POLICIES:
            joined = counted.get((campaign, policy), ArmCount(0, 0))
            filed = expected[campaign, policy]
            numbers = [f"{number:,}" for number in (*joined, *filed)]
            rows.append([campaign, policy, *numbers])
    return table(rows, align="llr")
