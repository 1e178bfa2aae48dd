"""The join on a real Kafka, without workers: members that come and go, partitions without traffic,
offsets that are lost, and its limits.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import TopicPartition

from tests.rig.environment import Environment
from tests.rig.feed_writer import FeedStream, FeedWriter, make_feed
from tests.rig.outcome_judge import Verdict, ends_of, judge, summed_feeds, written_requests
from tests.rig.outcome_runs import Plan, outcomes_environment, rules_of
from tests.rig.process import Process, pause, until
from tests.rig.progress import wait_until_all_is_out
from tests.rig.readers import Reader, Readers
from tests.rig.topics import read_to_end
from workers.streaming.records import read_headers
from workers.streaming.send import Sender

WINDOW_S = 2
PROTOCOLS = ("cooperative-sticky", "range", "consumer")


class Setup:
    """An environment whose feeds are written without a worker, and its readers."""

    def __init__(self, env: Environment) -> None:
        self.env = env
        env.create_outcome_topics()
        self.rules = rules_of(env)
        self.windows = {name: rules.window_s for name, rules in self.rules.items()}
        self.writer = FeedWriter(env, self.windows)
        self.readers = Readers(
            env.kafka,
            feeds=env.feeds,
            interactions=env.interactions,
            partitions=env.partitions,
            window_s=WINDOW_S,
            seed=1,
        )

    def wait_until_all_is_out(self, process: Process) -> None:
        wait_until_all_is_out(self.env, process, ends_of(self.env, self.rules))

    def judged(self) -> Verdict:
        verdict = judge(self.env, self.rules)
        assert verdict.wrong == []
        return verdict


@pytest.fixture
def make_setup(kafka: str, redis_url: str, tmp_path: Path) -> Iterator[Callable[..., Setup]]:
    """Make a setup. All processes are killed at the end."""
    with ExitStack() as ends:

        def make(protocol: str = "cooperative-sticky", **changes: Any) -> Setup:
            plan = Plan(window_s=WINDOW_S, protocol=protocol)
            environment = outcomes_environment(kafka, redis_url, tmp_path, plan, **changes)
            return Setup(ends.enter_context(environment))

        yield make


@pytest.fixture
def setup(make_setup: Callable[..., Setup]) -> Setup:
    """One setup."""
    return make_setup()


def stages(env: Environment) -> list[dict[str, Any]]:
    """The processes of the stages, as `trimtab status` shows them."""
    found: list[dict[str, Any]] = json.loads(env.trimtab("status", "--json").stdout)["stages"]
    return found


def command_in(log: str, name: str) -> list[str]:
    """The words behind `trimtab` of a command that was logged."""
    logged = re.search(rf"trimtab (offsets {name} [^'\"]*)", log)
    assert logged, log
    return logged[1].split()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_members_that_come_and_go_while_windows_are_open_change_no_outcome(
    make_setup: Callable[..., Setup], protocol: str
) -> None:
    setup = make_setup(protocol)
    env = setup.env
    with setup.readers:
        with FeedStream(setup.writer, seed=1):
            first = env.start_join()
            env.wait_for_more_outcomes()
            second = env.start_join()
            second.wait_for("event=restored")
            env.wait_for_more_outcomes()
            third = env.start_join()
            third.wait_for("event=restored")

            assert first.terminate() == 0, first.logged()
            env.wait_for_more_outcomes()
            assert second.terminate() == 0, second.logged()
            third.wait_for("event=restored", times=4)
            env.wait_for_more_outcomes()
        setup.readers.finish()
    setup.wait_until_all_is_out(third)
    assert third.terminate() == 0, third.logged()
    verdict = setup.judged()
    assert verdict.takes > 0
    assert verdict.letters > 0


def test_a_partition_without_further_records_closes_its_feeds_also_after_a_restart(
    setup: Setup,
) -> None:
    env = setup.env
    first = env.start_join()
    first.wait_for("event=restored", times=env.partitions)
    setup.writer.write(make_feed("before"))
    setup.wait_until_all_is_out(first)

    setup.writer.write(make_feed("open"), make_feed("another", surface="list"))
    assert first.terminate() == 0, first.logged()
    assert written_requests(env) == ["before"], "a drain does not close what is open"

    second = env.start_join()
    setup.wait_until_all_is_out(second)
    assert second.terminate() == 0, second.logged()

    third = env.start_join()
    third.wait_for("event=restored", times=env.partitions)
    pause(WINDOW_S)
    assert third.terminate() == 0, third.logged()
    assert setup.judged().feeds == 3, "the second process wrote all, and the third nothing again"


def test_a_feed_stays_open_while_an_undecided_transaction_may_hide_an_interaction(
    make_setup: Callable[..., Setup],
) -> None:
    setup = make_setup(partitions=1)
    env = setup.env
    join = env.start_join()
    join.wait_for("event=restored")
    feed = make_feed("r")
    setup.writer.write(feed)
    hanging = FeedWriter(env, setup.windows, name="hanging")
    hanging.write(make_feed("aborted"), is_left_open=True)
    view = next(Reader(feed, WINDOW_S, seed=1).views())
    sender = Sender.to(env.cluster, env.interactions)
    sender.send(view.key, view.value, view.headers)
    sender.finish()

    pause(WINDOW_S + 2.0)
    assert written_requests(env) == [], "behind the transaction the join has not read"
    hanging.abort()
    setup.wait_until_all_is_out(join)
    assert join.terminate() == 0, join.logged()
    verdict = setup.judged()
    assert (verdict.feeds, verdict.seen, verdict.letters) == (1, 1, 0)


def test_a_process_of_several_that_is_killed_is_started_again_and_all_of_them_drain(
    setup: Setup,
) -> None:
    env = setup.env
    with setup.readers:
        with FeedStream(setup.writer, seed=1):
            parent = env.start_join("--processes", "2")
            parent.wait_for("event=assigned", times=2)
            env.wait_for_more_outcomes()
            psutil.Process(parent.pid).children()[0].kill()
            parent.wait_for("event=starting", times=3)
            env.wait_for_more_outcomes()
        setup.readers.finish()
    setup.wait_until_all_is_out(parent)
    assert parent.terminate() == 0, parent.logged()
    assert setup.judged().takes > 0


def test_what_retention_removed_stops_its_partition_until_the_command_that_is_logged_resumes_it(
    make_setup: Callable[..., Setup],
) -> None:
    setup = make_setup(partitions=1)
    env = setup.env
    first = env.start_join()
    first.wait_for("event=restored")
    setup.writer.write(make_feed("before"))
    setup.wait_until_all_is_out(first)
    assert first.terminate() == 0, first.logged()

    setup.writer.write(make_feed("removed"))
    end = ends_of(env, setup.rules)[0]
    removed = TopicPartition(env.interactions, 0, end)
    env.admin.delete_records([removed])[removed].result()
    second = env.start_join()
    second.wait_for("event=offsets_lost")
    assert second.terminate() == 0

    resumed = env.trimtab(*command_in(second.logged(), "resume"))
    assert resumed.returncode == 0, resumed.stderr
    third = env.start_join()
    third.wait_for("event=restored")
    setup.writer.write(make_feed("after"))
    setup.wait_until_all_is_out(third)
    assert third.terminate() == 0, third.logged()
    assert sorted(written_requests(env)) == ["after", "before"]
    assert summed_feeds(env) == 2


def test_a_group_may_change_the_format_of_its_outcomes_and_goes_on_from_its_sums(
    setup: Setup,
) -> None:
    env = setup.env
    for form in ("json", "protobuf", "json"):
        env.variables["TRIMTAB_OUTCOMES_FORMAT"] = form
        join = env.start_join()
        join.wait_for("event=restored", times=env.partitions)
        setup.writer.write(*(make_feed(f"{len(env.processes)}-{n}") for n in range(20)))
        setup.wait_until_all_is_out(join)
        assert join.terminate() == 0, join.logged()

        feeds = 20 * len(env.processes)
        (counts,) = env.json_lines("outcomes", "counts", "home")
        assert sum(row["feeds"] for row in counts["rows"]) == feeds
        last = ("--from-beginning", "--count", str(feeds), "--timeout", "30")
        tail = env.json_lines("outcomes", "tail", *last)
        assert len({outcomes["request_id"] for outcomes in tail}) == feeds

    records = read_to_end(env.kafka, env.feed_outcomes)
    stated = {dict(read_headers(record) or [])["content-type"] for record in records}
    assert stated == {b"application/json", b"application/x-protobuf"}


def test_a_group_that_did_not_write_the_sums_touches_nothing(setup: Setup) -> None:
    env = setup.env
    first = env.start_join()
    first.wait_for("event=restored", times=env.partitions)
    setup.writer.write(*(make_feed(f"r{n}") for n in range(20)))
    setup.wait_until_all_is_out(first)
    until(lambda: [stage["counts"]["closed"] for stage in stages(env)] == [20], first.logged)
    assert first.terminate() == 0, first.logged()
    assert stages(env) == []

    env.variables["TRIMTAB_OUTCOMES_GROUP"] = f"{env.name}-another"
    other = env.start_join()
    other.wait_for("event=restore_refused", times=env.partitions)
    assert "expected the group that wrote them, or a new topic" in other.logged()
    until(lambda: any("standing" in (stage["failing"] or "") for stage in stages(env)))
    assert other.terminate() == 0, other.logged()
    setup.judged()


def test_past_its_memory_bound_the_join_ends_with_an_error_that_names_the_setting(
    setup: Setup,
) -> None:
    env = setup.env
    env.variables["TRIMTAB_MAX_OUTCOMES_MB"] = "1"
    setup.windows["home"] = 3600
    setup.writer.write(*(make_feed(f"r{n}", items=50) for n in range(3000)))
    full = env.start_join()
    until(lambda: not full.is_running(), full.logged)
    assert full.process.returncode == 1
    assert re.search(r"max_outcomes_mb: .* open feeds .* --max-outcomes-mb", full.logged())

    env.variables["TRIMTAB_MAX_OUTCOMES_MB"] = "100"
    second = env.start_join()
    second.wait_for("event=restored", times=env.partitions)
    assert second.terminate() == 0, second.logged()
