"""`trimtab status` beside real workers; and beside statuses that a test wrote, for what workers
seldom come to.
"""

import json
import random
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.commands.running import Ended, trimtab
from tests.rig.environment import Environment
from tests.rig.process import until
from tests.rig.redis import free_port
from tests.rig.traffic import make_request
from workers.ranking.weights import Weights

EVEN = Weights.of({"quality": 0.5, "engagement": 0.5})
TURNED = Weights.of({"quality": 0.9, "engagement": 0.1})
Write = Callable[..., None]


@pytest.fixture
def prefix() -> str:
    return f"t{uuid.uuid4().hex[:8]}:"


@pytest.fixture
def write(redis_url: str, prefix: str) -> Write:
    """Write the status of a worker that does not exist."""
    client = redis.Redis.from_url(redis_url)

    def written(worker: str, status: dict[str, Any] | str) -> None:
        text = status if isinstance(status, str) else json.dumps(status)
        client.set(f"{prefix}workers:status:{worker}", text, px=60_000)
        client.zadd(f"{prefix}workers:live", {worker: 1})

    return written


@pytest.fixture
def run(redis_url: str, prefix: str) -> Callable[..., Ended]:
    return lambda *words: trimtab(
        "status", *words, TRIMTAB_REDIS=redis_url, TRIMTAB_REDIS_PREFIX=prefix
    )


def weights(values: Weights, **changes: Any) -> dict[str, Any]:
    document = {
        "version": values.version,
        "values": values.values,
        "source": "redis",
        "applied_at": 1,
        "push_ms": None,
    }
    return document | {"refused": None} | changes


def experiment(**arms: float) -> dict[str, Any]:
    document = {
        "salt": "autumn",
        "arms": arms,
        "source": "redis",
        "applied_at": 1,
        "push_ms": None,
        "refused": None,
    }
    return document if arms else dict.fromkeys(document)


def status(home: dict[str, Any], **changes: Any) -> dict[str, Any]:
    home = {"experiment": experiment(), "arms": {}} | home
    document = {
        "worker": "w",
        "at": 1,
        "expiry_ms": 60_000,
        "pushes": True,
        "surfaces": {"home": home},
        "group": "g",
    }
    document |= {
        "partitions": [0, 1, 2, 5],
        "lag": {"0": 3, "1": 40, "2": 0, "5": 0},
        "open_requests": 7,
    }
    return document | {"models": {"home": {"quality": 3}}, "counts": {"feeds": 1234}} | changes


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


# Real workers


def test_two_workers_are_shown_and_a_killed_one_is_gone_after_its_expiry(env: Environment) -> None:
    def shown() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(trimtab("status", "--json", **env.settings).out)
        return found

    def read() -> bool:
        workers = shown()["workers"]
        return sum(len(worker["lag"]) for worker in workers) == 4 and len(workers) == 2

    for _ in range(2):
        env.start_worker().wait_for("event=restored")
    until(read, shown)
    env.send(make_request("r", 5, random.Random(1)))
    until(lambda: sum(worker["counts"]["feeds"] for worker in shown()["workers"]) == 1, shown)
    found = shown()
    assert sorted(number for worker in found["workers"] for number in worker["partitions"]) == [
        0,
        1,
        2,
        3,
    ]
    assert [worker["group"] for worker in found["workers"]] == [env.name, env.name]
    assert all(worker["age_ms"] < 10_000 for worker in found["workers"])

    ids = [worker["worker"] for worker in found["workers"]]
    (home, search) = found["surfaces"]
    assert home["weights"] == [
        {
            "version": EVEN.version,
            "values": dict(EVEN.values),
            "sources": ["default"],
            "workers": ids,
        }
    ]
    assert search["models"]["quality"] == [{"version": 1, "workers": ids}]

    ended = trimtab("status", **env.settings)
    assert ended.code == 0
    assert [line.split()[0] for line in ended.out.splitlines()[:3]] == ["WORKER", *ids]

    env.processes[0].kill()
    until(lambda: len(shown()["workers"]) == 1, shown)
    env.processes[1].terminate()
    ended = trimtab("status", **env.settings)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("Error: no worker lives: ")
    assert f"{env.name}:workers:status:*" in ended.err


# What is shown


def test_a_worker_is_one_line_with_its_lag_in_all_and_at_worst(
    write: Write, run: Callable[..., Ended]
) -> None:
    write("w-1", status(weights(EVEN)))
    write("w-2", status(weights(EVEN), lag={"0": 0}, partitions=[]))
    write("w-3", status(weights(EVEN), lag={}))
    head, *rows = (line.split() for line in run().out.splitlines()[:4])
    assert head == ["WORKER", "AGE", "PARTITIONS", "LAG", "WORST", "OPEN", "FEEDS"]
    assert [[row[0], *row[3:]] for row in rows] == [
        ["w-1", "0-2,5", "43", "40", "in", "1", "7", "1234"],
        ["w-2", "none", "0", "-", "7", "1234"],
        ["w-3", "0-2,5", "-", "-", "7", "1234"],
    ]


def test_if_all_workers_agree_there_is_one_line(write: Write, run: Callable[..., Ended]) -> None:
    for worker in ("w-1", "w-2"):
        write(worker, status(weights(EVEN)))
    assert lines(run().out)[3:] == [
        "",
        "home",
        f"weights {EVEN.version} on 2 of 2 workers, from redis: quality 0.5, engagement 0.5",
        "model quality 3 on 2 of 2 workers",
    ]


def test_if_workers_differ_each_version_has_a_line_that_names_its_workers(
    write: Write, run: Callable[..., Ended]
) -> None:
    refused = {"reason": "quality: got 'a\x1b[2J'", "at": 1, "content": None}
    drawn = {"experiment": experiment(b=12.5), "arms": {"b": weights(TURNED)}}
    write("w-1", status(weights(EVEN, source="last-good", refused=refused) | drawn))
    write("w-2", status(weights(TURNED), models={"home": {"quality": 4}}))
    assert lines(run().out)[4:] == [
        "home",
        f"weights {EVEN.version} on 1 of 2 workers (w-1), from last-good: quality 0.5, engagement 0.5",
        f"weights {TURNED.version} on 1 of 2 workers (w-2), from redis: quality 0.9, engagement 0.1",
        "experiment b 12.5 %, control 87.5 %, from redis, salt 'autumn', on 1 of 2 workers (w-1)",
        "experiment none, on 1 of 2 workers (w-2)",
        f"arm b {TURNED.version} on 1 of 2 workers (w-1), from redis: quality 0.9, engagement 0.1",
        r"refused weights on 1 of 2 workers (w-1): quality: got 'a\x1b[2J'",
        "model quality 3 on 1 of 2 workers (w-1)",
        "model quality 4 on 1 of 2 workers (w-2)",
    ]


def test_refused_pins_are_shown_with_their_reason_in_the_table_and_as_json(
    write: Write, run: Callable[..., Ended]
) -> None:
    def pins(reason: str) -> dict[str, Any]:
        unset = dict.fromkeys(("versions", "source", "applied_at", "push_ms"))
        return unset | {"refused": {"reason": reason, "at": 1, "content": None}}

    own = "quality: version 9 is not available, expected one of: 1"
    arm = "x: not an objective of this surface"
    write("w-1", status(weights(EVEN) | {"pins": pins(own), "arm_pins": {"b": pins(arm)}}))
    write("w-2", status(weights(EVEN) | {"pins": pins(own)}))
    assert [line for line in lines(run().out) if line.startswith("refused")] == [
        f"refused models on 2 of 2 workers: {own}",
        f"refused models:b on 1 of 2 workers (w-1): {arm}",
    ]

    (home,) = json.loads(run("--json").out)["surfaces"]
    assert home["refused"] == [
        {"document": "models", "reason": own, "workers": ["w-1", "w-2"]},
        {"document": "models:b", "reason": arm, "workers": ["w-1"]},
    ]


def test_an_arm_that_never_had_a_valid_set_is_shown_without_one(
    write: Write, run: Callable[..., Ended]
) -> None:
    none = weights(EVEN) | dict.fromkeys(("version", "values", "source", "applied_at"))
    write("w-1", status(weights(EVEN) | {"experiment": experiment(b=0), "arms": {"b": none}}))
    assert "arm b no valid set yet on 1 of 1 workers" in lines(run().out)


def test_a_status_that_cannot_be_read_is_shown_and_the_worker_counts_as_alive(
    write: Write, run: Callable[..., Ended]
) -> None:
    write("w-1", '{"worker": "w-1"}')
    ended = run()
    assert ended.code == 0
    assert lines(ended.out)[1:] == [
        "w-1 - - - - - -",
        "w-1: its status cannot be read, is it of another version? Object missing required field `at`",
    ]


def test_events_that_another_partitioner_placed_are_counted_below_the_table(
    write: Write, run: Callable[..., Ended]
) -> None:
    write("w-1", status(weights(EVEN), counts={"feeds": 5, "misplaced": 0}))
    write("w-2", status(weights(EVEN), counts={"feeds": 5, "misplaced": 12}))
    shown = " ".join(lines(run().out)[3:])
    message = (
        "w-2: events in another partition than murmur2 gives their key: 12;"
        " do all producers use that partitioner?"
    )
    assert shown.startswith(message)


def test_no_line_is_wider_than_a_hundred_columns(write: Write, run: Callable[..., Ended]) -> None:
    numbers = list(range(0, 2000, 2))
    many = {
        "partitions": numbers,
        "lag": {str(n): 1_000_000_000 + n for n in numbers},
        "counts": {"feeds": 10**12},
    }
    for number in range(3):
        refused = {"reason": "x" * 300, "at": 1, "content": None}
        write(f"{'pod-' * 15}{number}", status(weights(EVEN, refused=refused), **many))
    shown = run().out.splitlines()
    assert max(map(len, shown)) == 100
    assert [row.split()[0][-5:] for row in shown[1:4]] == ["pod-0", "pod-1", "pod-2"]
    assert shown[1].split()[3] == "0,2,4,6,8,10,…"


# No worker, no Redis


def test_without_a_worker_it_ends_with_1_with_json_too(
    run: Callable[..., Ended], prefix: str
) -> None:
    message = (
        f"Error: no worker lives: Redis holds no status of a worker under '{prefix}workers:status:*'; "
        "expected `trimtab worker` to run with this Redis and prefix\n"
    )
    assert run() == (1, "", message)
    assert run("--json") == (
        1,
        '{"workers":[],"surfaces":[],"stages":[],"stages_denied":null}\n',
        message,
    )


def test_a_redis_that_does_not_answer_ends_with_1_without_its_password() -> None:
    ended = trimtab("status", "--json", "--redis", f"redis://:secret@127.0.0.1:{free_port()}/0")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("Error: no Redis answers at redis:***@127.0.0.1:")
    assert "secret" not in ended.err


@pytest.mark.parametrize(
    ("words", "message"),
    [((), "redis: not set"), (("--redis", "http://u:secret@h"), "expected redis://")],
)
def test_a_redis_that_is_not_given_or_cannot_be_right_is_wrong_configuration(
    words: tuple[str, ...], message: str
) -> None:
    ended = trimtab("status", *words)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert "secret" not in ended.err


# What is wrong


def test_a_partition_that_is_not_read_has_a_line_and_one_that_is_stopped_ends_with_1(
    write: Write, run: Callable[..., Ended]
) -> None:
    states = {
        "0": {"state": "reading"},
        "1": {"state": "restoring", "for_ms": 2400, "why": "reads ranked-feeds from offset 3 to 9"},
        "2": {
            "state": "standing",
            "for_ms": 61_000,
            "why": "offset 7 is gone; trimtab offsets resume --partition 2",
        },
        "5": {"state": "failing", "for_ms": 1000, "why": "Broker: Message size too large"},
    }
    write("w-1", status(weights(EVEN), partition_states=states, turned_ms=3, doing="consume"))
    ended = run()
    assert ended.code == 1
    assert lines(ended.out)[2:5] == [
        "w-1: partition 1 restoring for 2 s: reads ranked-feeds from offset 3 to 9",
        "w-1: partition 2 standing for 61 s: offset 7 is gone; trimtab offsets resume --partition 2",
        "w-1: partition 5 failing for 1 s: Broker: Message size too large",
    ]
    assert ended.err == "Error: w-1: partitions that are not read: 2,5\n"

    (worker,) = json.loads(run("--json").out)["workers"]
    assert worker["partition_states"] == states


def test_a_restore_alone_is_no_trouble(write: Write, run: Callable[..., Ended]) -> None:
    write(
        "w-1", status(weights(EVEN), partition_states={"1": {"state": "restoring", "for_ms": 10}})
    )
    assert run().code == 0


def test_a_loop_that_does_not_turn_is_named_with_what_it_hangs_in(
    write: Write, run: Callable[..., Ended]
) -> None:
    write("w-1", status(weights(EVEN), turned_ms=12_400, doing="consume"))
    ended = run()
    assert (ended.code, ended.err) == (1, "Error: w-1: its loop does not turn\n")
    assert "w-1: its loop has been in 'consume' for 12 s" in lines(ended.out)


# The stages of outcomes


@pytest.fixture
def write_stage(redis_url: str, prefix: str) -> Write:
    """Write the status of a process of a stage that does not exist."""
    client = redis.Redis.from_url(redis_url)

    def written(stage: str, process: str, **report: Any) -> None:
        document = {"stage": stage, "process": process, "at": 1, "since": 1, "expiry_ms": 60_000}
        text = json.dumps(document | {"version": "1.2", "report": report})
        client.set(f"{prefix}outcomes:status:{stage}:{process}", text, px=60_000)
        client.zadd(f"{prefix}outcomes:live", {f"{stage}:{process}": 1})

    return written


def test_stages_are_shown_with_how_far_they_are_and_what_they_wait_for(
    write: Write, write_stage: Write, run: Callable[..., Ended]
) -> None:
    write("w", status(weights(EVEN)))
    write_stage("join", "host-0", partitions=[0, 1], lag={"0": 3}, closed_until=1_700_000_000_000)
    write_stage("users", "host-0", waiting_for="the topic user-outcomes")
    ended = run()
    assert ended.code == 0
    shown = lines(ended.out)
    assert any(line.startswith("join host-0") and "0-1 3 2023-11-14" in line for line in shown)
    assert "users host-0: waits for the topic user-outcomes" in shown

    join, users = json.loads(run("--json").out)["stages"]
    assert (join["closed_until"], join["lag"]) == (1_700_000_000_000, {"0": 3})
    assert users["waiting_for"] == "the topic user-outcomes"


def test_a_stage_that_fails_is_a_failure(
    write: Write, write_stage: Write, run: Callable[..., Ended]
) -> None:
    write("w", status(weights(EVEN)))
    write_stage("join", "host-0", failing="partition 3 standing: no sums")
    ended = run()
    assert ended.code == 1
    assert "join host-0: partition 3 standing: no sums" in ended.err


def test_a_process_of_a_stage_that_has_died_is_shown_and_a_stage_without_any_is_a_failure(
    write: Write, write_stage: Write, run: Callable[..., Ended], redis_url: str, prefix: str
) -> None:
    write("w", status(weights(EVEN)))
    client = redis.Redis.from_url(redis_url)
    client.zadd(f"{prefix}outcomes:live", {"join:host-0": 1_700_000_000_000})
    ended = run()
    assert ended.code == 1
    assert "join: no process lives" in ended.err
    text = " ".join(ended.out.split())
    assert "join host-0 gone - - -" in text
    assert "join host-0: gone since 2023-11-14 22:13:20.000Z: it was killed, or has ended" in text
    assert f"redis-cli ZREM {prefix}outcomes:live join:host-0" in text
    (document,) = json.loads(run("--json").out)["stages"]
    assert (document["gone_since"], document["unreadable"]) == (1_700_000_000_000, None)

    write_stage("join", "host-1")
    ended = run()
    assert ended.code == 0
    assert "join host-0 gone - - -" in " ".join(ended.out.split())


def test_a_stage_is_shown_if_no_worker_lives(write_stage: Write, run: Callable[..., Ended]) -> None:
    write_stage("join", "host-0")
    ended = run()
    assert ended.code == 1
    assert "join" in ended.out
    assert "no worker lives" in ended.err
