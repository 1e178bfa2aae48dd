"""What the demo counts as lost, doubled and torn, and when its claims hold."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from demo.audit import (
    ArmCounts,
    Audit,
    ModelSwap,
    Outcome,
    PreviewCheck,
    ScoresByModel,
    WeightChange,
    WeightsByArm,
    audit,
    check_preview,
    count_arms,
    count_other_versions,
    why_torn,
)
from tests.demo.building import EVEN, MODEL_SCORES, OTHER_WEIGHTS, POSTS, WEIGHTS, ranked
from workers.ranking.feed import Feed, FeedItem
from workers.ranking.request import Completion
from workers.ranking.weights import Weights


def judge(*feeds: Feed, of: Sequence[str]) -> Audit:
    """The audit of these feeds, if the requests with the ids `of` were sent."""
    sent = dict.fromkeys(of, POSTS)
    return audit(sent=sent, feeds=feeds, weights=WEIGHTS, scores=MODEL_SCORES)


def reason(
    feed: Feed, weights: WeightsByArm = WEIGHTS, scores: ScoresByModel = MODEL_SCORES
) -> str | None:
    """Why a feed of the posts a, b and c is torn."""
    return why_torn(feed, posts=POSTS, weights=weights, scores=scores)


def in_order(items: Iterable[FeedItem]) -> list[FeedItem]:
    return sorted(items, key=lambda item: -item.final_score)


def test_one_whole_feed_a_request_is_clean() -> None:
    result = judge(ranked("r1"), ranked("r2", OTHER_WEIGHTS), of=["r1", "r2"])
    assert (result.requests, result.feeds, result.clean) == (2, 2, True)
    assert result.by_weights == {
        ("control", EVEN.version): 1,
        ("control", OTHER_WEIGHTS.version): 1,
    }


def test_a_request_without_a_feed_is_lost() -> None:
    result = judge(ranked("r2"), of=["r1", "r2"])
    assert (result.lost, result.doubled, result.torn, result.clean) == (["r1"], [], [], False)


def test_a_request_with_two_feeds_is_doubled() -> None:
    result = judge(ranked("r1"), ranked("r1"), of=["r1"])
    assert (result.lost, result.doubled, result.torn, result.clean) == ([], ["r1"], [], False)


def test_a_feed_of_a_request_that_was_never_sent_is_torn() -> None:
    result = judge(ranked("r1"), ranked("stranger"), of=["r1"])
    assert [request_id for request_id, _ in result.torn] == ["stranger"]


def test_a_feed_with_halves_of_two_sets_of_weights_is_torn() -> None:
    halves = Weights.of({"quality": 0.1, "engagement": 0.5})
    assert "not a set that was in force" in str(reason(ranked("r", halves)))


def test_a_feed_whose_version_is_not_that_of_its_weights_is_torn() -> None:
    feed = ranked("r", Weights(EVEN.values, OTHER_WEIGHTS.version))
    assert "not a set that was in force" in str(reason(feed))


def test_a_feed_ranked_under_other_weights_than_it_says_is_torn() -> None:
    feed = ranked("r", OTHER_WEIGHTS)._replace(weights=EVEN)
    assert "not the weighted sum" in str(reason(feed))


def test_a_feed_out_of_order_is_torn() -> None:
    feed = ranked("r")
    reversed_feed = feed._replace(items=feed.items[::-1])
    assert "order" in str(reason(reversed_feed))


def test_adjustments_belong_to_the_sum_that_a_final_score_must_be() -> None:
    first, *rest = ranked("r").items
    adjusted = first._replace(
        final_score=first.final_score - 0.25, adjustments={"diversity": -0.25}
    )
    feed = ranked("r")._replace(items=in_order([adjusted, *rest]))
    assert reason(feed) is None

    unsaid = [item._replace(adjustments={}) for item in feed.items]
    assert "plus its adjustments" in str(reason(feed._replace(items=unsaid)))


def test_items_with_equal_final_scores_are_in_order_of_item_id() -> None:
    items = [FeedItem(item_id, 0.5, (0.5, 0.5)) for item_id in ("a", "b")]
    same_scores = {1: {"a": 0.5, "b": 0.5}}
    scores = {"quality": same_scores, "engagement": same_scores}

    feed = ranked("r")._replace(items=items)
    assert reason(feed, scores=scores) is None

    reversed_feed = feed._replace(items=items[::-1])
    assert "order" in str(reason(reversed_feed, scores=scores))


def test_a_feed_with_a_post_twice_is_torn() -> None:
    feed = ranked("r")
    twice = feed._replace(items=[feed.items[0], *feed.items])
    assert "not the posts that were sent" in str(reason(twice))


def test_a_feed_with_a_post_of_another_request_is_torn() -> None:
    result = why_torn(ranked("r"), posts=["a", "b"], weights=WEIGHTS, scores=MODEL_SCORES)
    assert "not the posts that were sent" in str(result)


def test_a_feed_closed_by_its_deadline_is_partial_and_not_torn() -> None:
    feed = ranked("r1")
    partial = feed._replace(items=feed.items[:2], completion=Completion.DEADLINE)
    result = judge(partial, of=["r1"])
    assert (result.partial, result.clean) == (["r1"], True)


def test_a_feed_under_the_weights_of_another_arm_is_torn() -> None:
    weights = {"control": (EVEN,), "canary": (OTHER_WEIGHTS,)}
    canary = ranked("r", OTHER_WEIGHTS)._replace(arm="canary")
    assert reason(canary, weights) is None

    for arm in ("control", "stranger"):
        assert f"for the arm {arm}" in str(reason(canary._replace(arm=arm), weights))
    assert "for the arm canary" in str(reason(canary._replace(weights=EVEN), weights))


def test_feeds_are_counted_by_the_version_of_each_model() -> None:
    result = judge(ranked("r1"), ranked("r2", version=2), of=["r1", "r2"])
    assert result.clean
    assert result.by_model == {("quality", 1): 1, ("quality", 2): 1, ("engagement", 1): 2}


def test_a_feed_that_names_another_version_than_the_one_that_scored_it_is_torn() -> None:
    feed = ranked("r")._replace(models={"quality": 2, "engagement": 1})
    expected = "not all of its scores of quality are those of quality/2"
    assert expected in str(reason(feed))


def test_a_feed_scored_by_two_versions_of_one_model_is_torn_whichever_it_names() -> None:
    old = {item.item_id: item for item in ranked("r", version=1).items}
    new = {item.item_id: item for item in ranked("r", version=2).items}
    items = in_order([old["a"], new["b"], old["c"]])

    for version in (1, 2):
        mixed = ranked("r", version=version)._replace(items=items)
        assert "not all of its scores of quality" in str(reason(mixed))


def test_a_feed_by_a_version_that_was_never_in_force_is_torn() -> None:
    feed = ranked("r")._replace(models={"quality": 3, "engagement": 1})
    assert "it names quality/3" in str(reason(feed))


def test_a_feed_without_a_model_for_each_weight_is_torn() -> None:
    feed = ranked("r")._replace(models={"quality": 1})
    expected = "its models are of quality, its weights of quality, engagement"
    assert expected in str(reason(feed))


def test_a_feed_ranked_under_the_previewed_weights_is_as_previewed() -> None:
    pair = (ranked("r"), ranked("r-again", OTHER_WEIGHTS))
    result = check_preview([pair], OTHER_WEIGHTS)
    assert result == PreviewCheck(compared=1, as_previewed=1)


def test_a_feed_under_other_weights_is_not_as_previewed() -> None:
    pair = (ranked("r"), ranked("r-again"))
    result = check_preview([pair], OTHER_WEIGHTS)
    assert result == PreviewCheck(compared=1, as_previewed=0)
    assert not result.holds


def test_a_feed_with_a_final_score_that_differs_in_one_bit_is_not_as_previewed() -> None:
    feed = ranked("r-again", OTHER_WEIGHTS)
    first, *rest = feed.items
    other_first = first._replace(final_score=math.nextafter(first.final_score, 1))
    pair = (ranked("r"), feed._replace(items=[other_first, *rest]))

    result = check_preview([pair], OTHER_WEIGHTS)
    assert result == PreviewCheck(compared=1, as_previewed=0)


def test_a_partial_feed_is_not_compared_with_its_preview() -> None:
    partial = ranked("r")._replace(completion=Completion.DEADLINE)
    pairs = [(partial, ranked("r", OTHER_WEIGHTS)), (ranked("r"), partial)]
    result = check_preview(pairs, OTHER_WEIGHTS)
    assert result == PreviewCheck(compared=0, as_previewed=0)


def test_users_who_come_again_are_counted_and_those_in_two_arms_too() -> None:
    users = [
        ("once", "canary"),
        ("same", "control"),
        ("same", "control"),
        ("same", "control"),
        ("both", "canary"),
        ("both", "control"),
    ]
    result = count_arms(ranked("r")._replace(user_id=user, arm=arm) for user, arm in users)
    assert result == ArmCounts({"canary": 2, "control": 4}, returning=2, in_two_arms=1)
    assert f"{result.percent('control'):.1f} % of {result.total}" == "66.7 % of 6"


def test_feeds_by_another_version_than_the_pinned_one_are_counted() -> None:
    feeds = [ranked("r1"), ranked("r2", version=2), ranked("r3")]
    assert count_other_versions(feeds, "quality", 1) == 1
    assert count_other_versions(feeds, "engagement", 1) == 0


GOOD = Outcome(
    audit=judge(ranked("r1"), of=["r1"]),
    weight_change=WeightChange(started_at=10, returned_at=12, ranked_at=15, readable_at=20),
    before=ranked("r1"),
    after=ranked("r1-again", OTHER_WEIGHTS),
    preview=PreviewCheck(compared=2, as_previewed=2),
    arms=ArmCounts({"control": 2}, returning=1, in_two_arms=0),
    model_swap=ModelSwap(ranked_ms=500, refused="hash", pinned=100, others=0),
)
LOST = judge(of=["r1"])


@pytest.mark.parametrize(
    "changes",
    [
        {"audit": LOST},
        {"preview": PreviewCheck(compared=2, as_previewed=1)},
        {"arms": ArmCounts({"control": 2}, returning=1, in_two_arms=1)},
        {"model_swap": ModelSwap(ranked_ms=500, refused="folder", pinned=100, others=0)},
        {"model_swap": ModelSwap(ranked_ms=500, refused="hash", pinned=100, others=1)},
        {"model_swap": ModelSwap(ranked_ms=500, refused="hash", pinned=0, others=0)},
        {"trouble": "Not seen within 20 s: a feed under the new weights"},
    ],
    ids=lambda changes: str(next(iter(changes.values()))),
)
def test_an_outcome_is_good_only_if_every_claim_holds(changes: dict[str, Any]) -> None:
    assert GOOD.good
    assert not replace(GOOD, **changes).good


def test_the_json_has_every_number_of_the_outcome() -> None:
    assert json.loads(json.dumps(GOOD.document())) == {
        "requests": 1,
        "feeds": 1,
        "lost": 0,
        "doubled": 0,
        "torn": 0,
        "partial": 0,
        "ranked_ms": 5,
        "readable_ms": 10,
        "before": {"weights": {"quality": 0.5, "engagement": 0.5}, "items": ["a", "b", "c"]},
        "after": {"weights": {"quality": 0.1, "engagement": 0.9}, "items": ["b", "a", "c"]},
        "preview": {"compared": 2, "as_previewed": 2},
        "experiment": {"arms": {"control": 2}, "returning_users": 1, "users_in_two_arms": 0},
        "models": {"engagement": {"1": 1}, "quality": {"1": 1}},
        "swap": {"ranked_ms": 500, "refused": "hash", "pinned": 100, "others": 0},
        "trouble": None,
    }


def test_the_json_of_a_demo_that_was_cut_short_is_null_where_it_did_not_come() -> None:
    document = Outcome(audit=LOST, trouble="The worker has ended").document()
    assert document["lost"] == 1
    assert document["trouble"] == "The worker has ended"
    for key in ("ranked_ms", "readable_ms", "before", "after", "preview", "experiment", "swap"):
        assert document[key] is None
