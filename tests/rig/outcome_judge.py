"""What the join must have written, judged from the log of `interactions` as it is read back.

For each partition the oracle of tests/outcomes computes what must come, from the timestamps that the
broker gave. Then every record that the join wrote is compared: equal, not nearly.

- Lost or doubled: a feed that has no record in request-outcomes, or more than one.
- Wrong: a record, a sum or a dead letter that is not the oracle's.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.outcomes.oracle import Expected, counts, expected
from tests.rig.environment import REQUEST_PARTITIONS, Environment
from tests.rig.readers import EXPECTED_REASON, PROTOBUF
from tests.rig.topics import read_to_end
from workers.codec.dead_letters import read_dead_letter
from workers.codec.generated.interaction_pb2 import Interaction as WireInteraction
from workers.codec.partitioner import partition_of
from workers.outcomes.records import FeedRecord, Interaction
from workers.ranking.outcome_rules import OutcomeRules
from workers.ranking.request import Completion
from workers.streaming.records import Fetched, read_headers

_HOUR_MS = 3_600_000
_TOTALS = ("feeds", "deadline_feeds", "items", "seen", "takes")

Rules = Mapping[str, OutcomeRules]
Row = dict[str, Any]
Table = dict[str, object]
Place = tuple[int, int]
"""A partition and an offset."""


@dataclass
class Verdict:
    """How much was compared, and a line about everything that is wrong."""

    feeds: int = 0
    interactions: int = 0
    letters: int = 0
    letters_by_reason: dict[str, int] = field(default_factory=dict)
    sums: int = 0
    seen: int = 0
    takes: int = 0
    wrong: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The same, for a report."""
        return asdict(self)


@dataclass
class Partition:
    """One partition of interactions as the log has it. `offsets` has the offset of each record that
    the oracle gets.
    """

    number: int
    offsets: list[int] = field(default_factory=list)
    records: list[tuple[int, FeedRecord | Interaction | None]] = field(default_factory=list)
    letters: dict[int, str] = field(default_factory=dict)
    oracle: Expected = field(default_factory=Expected)


def judge(env: Environment, rules: Rules) -> Verdict:
    """Compare everything that the join wrote, all feeds being closed."""
    verdict = Verdict()
    partitions = read_partitions(env, rules)
    for partition in partitions.values():
        partition.oracle = expected(partition.records, rules)
        for place, reason in partition.oracle.letters:
            partition.letters[partition.offsets[place]] = reason
        verdict.feeds += len(partition.oracle.feeds)
        verdict.interactions += sum(
            isinstance(record, Interaction) for _, record in partition.records
        )
    _judge_feeds(env, rules, partitions, verdict)
    _judge_requests(env, rules, partitions, verdict)
    _judge_sums(env, partitions, verdict)
    _judge_letters(env, partitions, verdict)
    return verdict


def ends_of(env: Environment, rules: Rules) -> dict[int, int]:
    """The offset behind the last record of each partition of interactions."""
    partitions = read_partitions(env, rules)
    return {number: max(each.offsets, default=-1) + 1 for number, each in partitions.items()}


def written_requests(env: Environment) -> list[str]:
    """The ids of the requests in request-outcomes by now, in no order but that of a partition."""
    records = read_to_end(env.kafka, env.request_outcomes)
    return [json.loads(record.value() or b"")["request_id"] for record in records]


def summed_feeds(env: Environment) -> int:
    """How many feeds are in the latest sums of all keys and partitions."""
    latest: dict[tuple[int, bytes | None], int] = {}
    for record in read_to_end(env.kafka, env.feed_outcomes):
        latest[record.partition(), record.key()] = json.loads(record.value() or b"")["feeds"]
    return sum(latest.values())


def read_partitions(env: Environment, rules: Rules) -> dict[int, Partition]:
    """Everything in interactions, as the oracle gets it."""
    partitions = {number: Partition(number) for number in range(env.partitions)}
    for message in read_to_end(env.kafka, env.interactions):
        partition = partitions[message.partition()]
        record, reason = _read(message, rules)
        partition.offsets.append(message.offset())
        partition.records.append((message.timestamp()[1], record))
        if reason:
            partition.letters[message.offset()] = reason
    return partitions


def _read(message: Fetched, rules: Rules) -> tuple[FeedRecord | Interaction | None, str]:
    """What a record is to the oracle, and the reason for which a decoder must refuse it."""
    headers = read_headers(message) or []
    by_name = {name: value or b"" for name, value in headers}
    if EXPECTED_REASON in by_name:
        return None, by_name[EXPECTED_REASON].decode()
    value = message.value() or b""
    if by_name.get("trimtab.record") == b"feed":
        row = json.loads(value)
        row["completion"] = Completion(row["completion"])
        row["experiment"] = row.get("experiment")
        row["item_ids"] = tuple(row["item_ids"])
        return FeedRecord(**row), ""

    if PROTOBUF[0] in headers:
        wire = WireInteraction.FromString(value)
        row = {name.name: content for name, content in wire.ListFields()}
    else:
        row = json.loads(value)
    interaction = Interaction(**{"value": None} | row)
    of_surface = rules.get(interaction.surface)
    if of_surface is None or not of_surface.names_kind(interaction.kind):
        return None, ""
    return interaction, ""


def _judge_feeds(
    env: Environment, rules: Rules, partitions: Mapping[int, Partition], verdict: Verdict
) -> None:
    """Each feed of a surface with outcomes has one feed record, in the same partition, and no other
    feed has one.
    """
    published: dict[str, tuple[int, Row]] = {}
    for message in read_to_end(env.kafka, env.feeds):
        feed = json.loads(message.value() or b"")
        if feed["surface"] not in rules:
            continue
        if feed["request_id"] in published:
            verdict.wrong.append(f"feed {feed['request_id']}: published twice")
        published[feed["request_id"]] = (message.partition(), feed)

    recorded: dict[str, tuple[int, FeedRecord]] = {}
    for partition in partitions.values():
        for _, record in partition.records:
            if not isinstance(record, FeedRecord):
                continue
            if record.request_id in recorded:
                verdict.wrong.append(f"feed record {record.request_id}: written twice")
            recorded[record.request_id] = (partition.number, record)

    for request_id in sorted(published.keys() ^ recorded.keys()):
        has = "no feed record" if request_id in published else "a record and no feed"
        verdict.wrong.append(f"feed {request_id}: {has}")
    for request_id in published.keys() & recorded.keys():
        number, feed = published[request_id]
        recorded_in, record = recorded[request_id]
        if recorded_in != number or _as_record(feed, record.window_s) != record:
            verdict.wrong.append(f"feed record {request_id}: {record} of {feed}")


def _as_record(feed: Row, window_s: int) -> FeedRecord:
    score_sums = dict.fromkeys(feed["weights"]["values"], 0.0)
    for item in feed["items"]:
        for objective, score in item["scores"].items():
            score_sums[objective] += score
    return FeedRecord(
        request_id=feed["request_id"],
        surface=feed["surface"],
        user_id=feed["user_id"],
        arm=feed["arm"],
        experiment=feed.get("experiment"),
        weights=feed["weights"]["version"],
        models=feed["models"],
        completion=Completion(feed["completion"]),
        window_s=window_s,
        item_ids=tuple(item["item_id"] for item in feed["items"]),
        score_sums=score_sums,
    )


def _judge_requests(
    env: Environment, rules: Rules, partitions: Mapping[int, Partition], verdict: Verdict
) -> None:
    """Each feed has one record in request-outcomes, which is the oracle's, in the order of going
    out.
    """
    wanted: dict[str, Row] = {}
    source_of: dict[str, tuple[int, int]] = {}
    for partition in partitions.values():
        for place, request_id in enumerate(partition.oracle.order):
            wanted[request_id] = _request_row(partition.oracle, request_id, rules)
            source_of[request_id] = (partition.number, place)

    written: dict[str, int] = defaultdict(int)
    last_place: dict[tuple[int, int], int] = defaultdict(lambda: -1)
    for message in read_to_end(env.kafka, env.request_outcomes):
        row = json.loads(message.value() or b"")
        request_id = row["request_id"]
        written[request_id] += 1
        if row != wanted.get(request_id):
            verdict.wrong.append(f"request {request_id}: {row}, expected {wanted.get(request_id)}")
            continue
        verdict.seen += row["seen"]
        verdict.takes += row["takes"]

        key = row["user_id"].encode()
        if (message.key(), message.partition()) != (key, partition_of(key, REQUEST_PARTITIONS)):
            verdict.wrong.append(f"request {request_id}: in partition {message.partition()}")
        source, place = source_of[request_id]
        lane = (source, message.partition())
        if place <= last_place[lane]:
            verdict.wrong.append(f"request {request_id}: out of its order")
        last_place[lane] = place

    for request_id in wanted:
        if written[request_id] != 1:
            verdict.wrong.append(f"request {request_id}: {written[request_id]} records, expected 1")


def _request_row(oracle: Expected, request_id: str, rules: Rules) -> Row:
    record, time = oracle.feeds[request_id]
    others = dict.fromkeys(rules[record.surface].others, 0)
    totals = {"seen": 0, "take": 0, **others}
    outcomes = []
    for place, names in enumerate(oracle.outcomes[request_id]):
        for name in names:
            totals[name] += 1
        if names:
            in_order = [name for name in totals if name in names]
            outcome = {"item_id": record.item_ids[place], "position": place, "outcomes": in_order}
            outcomes.append(outcome)
    row: Row = {
        "request_id": request_id,
        "surface": record.surface,
        "user_id": record.user_id,
        "arm": record.arm,
        "weights": record.weights,
        "models": dict(record.models),
        "completion": str(record.completion),
        "published_at": time,
        "closed_at": time + 1000 * record.window_s,
        "items": len(record.item_ids),
        "seen": totals["seen"],
        "takes": totals["take"],
        "outcomes": outcomes,
    }
    if others:
        row["others"] = {name: totals[name] for name in others}
    if record.experiment is not None:
        row["experiment"] = record.experiment
    return row


def _judge_sums(env: Environment, partitions: Mapping[int, Partition], verdict: Verdict) -> None:
    """The latest record of each key and partition in feed-outcomes holds the oracle's sums."""
    wanted: dict[tuple[object, ...], Table] = {}
    for partition in partitions.values():
        for key, table in counts(partition.oracle).items():
            wanted[partition.number, *key] = _without_zeros(table)

    latest: dict[tuple[object, ...], Table] = {}
    keys: dict[tuple[int, bytes | None], tuple[object, ...]] = {}
    rows: dict[int, list[Row]] = {number: [] for number in partitions}
    for message in read_to_end(env.kafka, env.feed_outcomes):
        row = json.loads(message.value() or b"")
        rows[message.partition()].append(row)
        key = (message.partition(), *_sums_key(row))
        latest[key] = _without_zeros(_sums_table(row))
        if keys.setdefault((message.partition(), message.key()), key) != key:
            verdict.wrong.append(f"sums {key}: under the record key of {keys}")
        if row["partition"] != message.partition():
            verdict.wrong.append(f"sums {key}: in partition {message.partition()}")
        totals = {name: sum(row["clusters"][name]) for name in _TOTALS}
        if totals != {name: row[name] for name in _TOTALS}:
            verdict.wrong.append(f"sums {key}: its totals are not those of its clusters, {totals}")
    for number, partition in partitions.items():
        verdict.wrong += _judge_closed_until(partition.oracle, rows[number])
    if len(keys) != len(latest):
        verdict.wrong.append(f"sums: {len(keys)} record keys for {len(latest)} keys")

    verdict.sums = len(wanted)
    for key in wanted.keys() | latest.keys():
        if wanted.get(key) != latest.get(key):
            verdict.wrong.append(f"sums {key}: {latest.get(key)}, expected {wanted.get(key)}")


def _judge_closed_until(oracle: Expected, rows: Sequence[Row]) -> Iterator[str]:
    """Whoever reads sums up to a record has every feed that was published before its `closed_until`.

    Records of one transaction have the same, and are read together.
    """
    times: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for record, time in oracle.feeds.values():
        times[_key_of_feed(record, time)].append(time)

    feeds: dict[tuple[object, ...], int] = defaultdict(int)
    for place, row in enumerate(rows):
        feeds[_sums_key(row)] = row["feeds"]
        until = row["closed_until"]
        if place + 1 < len(rows) and rows[place + 1]["closed_until"] == until:
            continue
        for key, of_key in times.items():
            published = sum(time < until for time in of_key)
            if feeds[key] < published:
                yield f"closed_until {until}: {feeds[key]} of {published} feeds of {key}"


def _key_of_feed(record: FeedRecord, time: int) -> tuple[object, ...]:
    models = tuple(sorted(record.models.items()))
    hour = time // _HOUR_MS
    return hour, record.surface, record.arm, record.experiment, record.weights, models


def _sums_key(row: Row) -> tuple[object, ...]:
    models = tuple(sorted(row["models"].items()))
    hour = row["hour"] // _HOUR_MS
    return hour, row["surface"], row["arm"], row.get("experiment"), row["weights"], models


def _sums_table(row: Row) -> Table:
    """A record of sums in the form in which the oracle has its counts."""
    clusters = row["clusters"]
    table: dict[object, object] = {}
    columns = {name: clusters[name] for name in ("feeds", "items", "seen")}
    columns |= {"deadline": clusters["deadline_feeds"], "take": clusters["takes"]}
    columns |= clusters["others"]
    for name, column in columns.items():
        for cluster, count in zip(clusters["cluster"], column, strict=True):
            table[name, cluster] = count
    for objective, column in clusters["scores"].items():
        for cluster, score in zip(clusters["cluster"], column, strict=True):
            table["score", cluster, objective] = score
    for position, count in enumerate(row["positions"]["seen"]):
        table["seen", "at", position] = count
    for position, count in enumerate(row["positions"]["takes"]):
        table["take", "at", position] = count
    return table  # type: ignore[return-value]


def _without_zeros(table: Table) -> Table:
    return {name: count for name, count in table.items() if count}


def _judge_letters(env: Environment, partitions: Mapping[int, Partition], verdict: Verdict) -> None:
    """Each refused record has one dead letter with its reason, and no other record has one."""
    wanted: dict[Place, str] = {}
    for partition in partitions.values():
        for offset, reason in partition.letters.items():
            wanted[partition.number, offset] = reason
    verdict.letters = len(wanted)
    for reason in sorted(wanted.values()):
        verdict.letters_by_reason[reason] = verdict.letters_by_reason.get(reason, 0) + 1

    written: dict[Place, list[str]] = defaultdict(list)
    for message in read_to_end(env.kafka, env.interaction_letters):
        letter = read_dead_letter(message.key(), message.value(), read_headers(message) or [])
        assert letter is not None
        assert letter.topic == env.interactions
        written[letter.partition, letter.offset].append(letter.reason)
    for place in sorted(wanted.keys() | written.keys()):
        reasons = [wanted[place]] if place in wanted else []
        if written[place] != reasons:
            verdict.wrong.append(f"dead letter of {place}: {written[place]}, expected {reasons}")
