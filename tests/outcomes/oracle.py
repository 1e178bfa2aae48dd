"""What the join must come to, computed the plain way: by holding the whole partition in memory.

It shares no code with the join but the values and the rules of a surface.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from workers.outcomes.records import FeedRecord, Interaction
from workers.ranking.outcome_rules import OutcomeRules

Record = tuple[int, FeedRecord | Interaction | None]
"""A timestamp (ms) and what was written: None if only its time counts. The place in a list is the
offset.
"""

Outcomes = dict[str, list[set[str]]]


@dataclass
class Expected:
    """`outcomes` has, by request, the names of the outcomes of each item. `letters` has offsets and
    reasons.
    """

    outcomes: Outcomes = field(default_factory=dict)
    letters: list[tuple[int, str]] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    feeds: dict[str, tuple[FeedRecord, int]] = field(default_factory=dict)


def expected(records: Sequence[Record], rules: Mapping[str, OutcomeRules]) -> Expected:
    """Join the records of one partition, all feeds being closed at the end."""
    result = Expected()
    times: list[int] = []
    dues: dict[str, tuple[int, int]] = {}
    for offset, (timestamp, record) in enumerate(records):
        time = max([timestamp, *times[-1:]])
        times.append(time)
        if record is None:
            continue
        if isinstance(record, FeedRecord):
            if record.request_id not in result.feeds:
                result.feeds[record.request_id] = (record, time)
                result.outcomes[record.request_id] = [set() for _ in record.item_ids]
                dues[record.request_id] = (time + 1000 * record.window_s, offset)
            continue

        known = result.feeds.get(record.request_id)
        if known is None or time > dues[record.request_id][0]:
            result.letters.append((offset, "no-feed"))
        elif (record.surface, record.user_id) != (known[0].surface, known[0].user_id):
            result.letters.append((offset, "conflict"))
        elif record.item_id not in known[0].item_ids:
            result.letters.append((offset, "no-item"))
        else:
            place = known[0].item_ids.index(record.item_id)
            result.outcomes[record.request_id][place] |= _names(record, rules[record.surface])

    for request_id, items in result.outcomes.items():
        surface_rules = rules[result.feeds[request_id][0].surface]
        if surface_rules.seen is None:
            lowest = max((place for place, names in enumerate(items) if names), default=-1)
            for names in items[: lowest + 1]:
                names.add("seen")
    result.order = sorted(dues, key=lambda request_id: dues[request_id])
    return result


def _names(interaction: Interaction, rules: OutcomeRules) -> set[str]:
    named = {"take": rules.take, **rules.others}
    if rules.seen is not None:
        named["seen"] = rules.seen
    names = set()
    for name, rule in named.items():
        if rule.kind != interaction.kind:
            continue
        if rule.at_least is None or (
            interaction.value is not None and interaction.value >= rule.at_least
        ):
            names.add(name)
    return names | {"seen"} if names else set()


def counts(result: Expected) -> dict[tuple[object, ...], dict[str, object]]:
    """The sums by key: totals, by cluster and by position, added in the order of going out."""
    sums: dict[tuple[object, ...], dict[str, object]] = {}
    for request_id in result.order:
        record, time = result.feeds[request_id]
        key = (
            time // 3_600_000,
            record.surface,
            record.arm,
            record.experiment,
            record.weights,
            tuple(sorted(record.models.items())),
        )
        digest = hashlib.sha256(b"cluster:" + record.user_id.encode()).digest()
        cluster = int.from_bytes(digest[:8], "big") % 256
        table = sums.setdefault(key, {})
        _count(table, ("feeds", cluster), 1)
        _count(table, ("deadline", cluster), int(record.completion == "deadline"))
        _count(table, ("items", cluster), len(record.item_ids))
        for objective, score in record.score_sums.items():
            _count(table, ("score", cluster, objective), score)
        for place, names in enumerate(result.outcomes[request_id]):
            for name in names:
                _count(table, (name, cluster), 1)
                if name in ("seen", "take"):
                    _count(table, (name, "at", min(place, 50)), 1)
    return sums


def _count(table: dict[str, object], name: object, more: float) -> None:
    table[name] = table.get(name, 0) + more  # type: ignore[index, call-overload]
