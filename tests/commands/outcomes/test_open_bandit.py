"""The Open Bandit sample: what is written to the topic, joined, is what the file says."""

import hashlib
from collections import Counter
from pathlib import Path

import pytest

from workers.codec.feed_records import decode_feed_record, encode_feed_record, feed_record_headers
from workers.codec.formats import Format
from workers.codec.interactions import InteractionDecoder, encode_interaction
from workers.commands.outcomes.open_bandit import (
    EXPERIMENT,
    WINDOW_S,
    Impression,
    count_directly,
    feed_of,
    interactions_of,
    read_impressions,
    surfaces_toml,
    user_of,
)
from workers.outcomes.counts import GroupBy, count_by
from workers.outcomes.join import NO_TIME, Join, JoinMark
from workers.outcomes.sums import SumsLedger
from workers.ranking.outcome_rules import OutcomeRule, OutcomeRules
from workers.surfaces import load_surfaces

CLICKS = {
    ("all", "random"): 38,
    ("all", "bts"): 42,
    ("men", "random"): 46,
    ("men", "bts"): 69,
    ("women", "random"): 46,
    ("women", "bts"): 46,
}
FIRST = Impression(1, "all", "random", "14", 2, False)


@pytest.fixture(scope="module")
def impressions() -> list[Impression]:
    return list(read_impressions())


def test_the_file_has_10000_impressions_of_each_policy_on_each_campaign(
    impressions: list[Impression],
) -> None:
    counted = count_directly(impressions)
    assert {place: count.clicks for place, count in counted.items()} == CLICKS
    assert {count.seen for count in counted.values()} == {10_000}
    assert impressions[0] == FIRST
    assert {impression.position for impression in impressions} == {0, 1, 2}


def test_each_row_is_a_user_of_its_own_whom_the_published_hash_gives_the_arm(
    impressions: list[Impression],
) -> None:
    some = impressions[:200] + impressions[-200:]
    users = [user_of(impression) for impression in some]
    assert len(set(users)) == len(some)
    for impression, user_id in zip(some, users, strict=True):
        # Two arms with half of the buckets each: `bts` has the first half.
        digest = hashlib.sha256(f"open-bandit:{user_id}".encode()).digest()
        bucket = int.from_bytes(digest[:8], "big") % 10_000
        assert impression.policy == ("bts" if bucket < 5000 else "random")
    assert EXPERIMENT.percents() == {"random": 50.0, "bts": 50.0}


def test_an_impression_is_a_feed_of_one_item_that_keeps_its_position() -> None:
    feed = feed_of(FIRST)
    assert (feed.surface, feed.arm, feed.item_ids, feed.first_position) == (
        "all",
        "random",
        ("14",),
        2,
    )
    assert feed.experiment is not None
    (view,) = interactions_of(FIRST, feed, at=7)
    assert (view.request_id, view.user_id, view.item_id) == (feed.request_id, feed.user_id, "14")
    kinds = [one.kind for one in interactions_of(FIRST._replace(is_clicked=True), feed, at=7)]
    assert kinds == ["view", "click"]


def test_the_records_joined_say_exactly_what_the_file_says(
    impressions: list[Impression], tmp_path: Path
) -> None:
    path = tmp_path / "surfaces.toml"
    path.write_text(surfaces_toml())
    surfaces = load_surfaces(path)
    expected_rules = OutcomeRules(WINDOW_S, OutcomeRule("view"), OutcomeRule("click"))
    rules = {}
    for name, surface in surfaces.items():
        assert surface.outcomes == expected_rules
        rules[name] = surface.outcomes

    decoder = InteractionDecoder(surfaces)
    headers = feed_record_headers(Format.JSON)
    join = Join(JoinMark(low_water=0, scan=0, time=NO_TIME, next=0), rules)
    now = 1_763_900_000_000
    for impression in impressions:
        feed = feed_of(impression)
        key = feed.request_id.encode()
        offset = join.next
        join.observe(offset, now)
        value = encode_feed_record(feed, Format.JSON)
        assert join.take_feed(decode_feed_record(value, key, headers), offset)
        for interaction in interactions_of(impression, feed, now):
            join.observe(join.next, now)
            join.take_interaction(decoder.decode(encode_interaction(interaction), key), now)

    ledger = SumsLedger()
    join.close_due(now + 1000 * WINDOW_S + 1)
    sums = ledger.add(join.take_due(len(impressions)))
    for campaign in surfaces:
        of_campaign = [(key, of_key) for key, of_key in sums.items() if key.surface == campaign]
        arms = count_by(GroupBy.ARM, of_campaign)
        for row in arms:
            assert (row.feeds, row.items, row.seen) == (10_000, 10_000, 10_000)
            assert row.takes == CLICKS[campaign, str(row.label)]
        assert [row.label for row in arms] == ["bts", "random"]

        shown: Counter[object] = Counter()
        clicked: Counter[object] = Counter()
        for impression in impressions:
            if impression.campaign == campaign:
                shown[impression.position] += 1
                clicked[impression.position] += impression.is_clicked
        for row in count_by(GroupBy.POSITION, of_campaign):
            assert (row.seen, row.takes) == (shown[row.label], clicked[row.label])
