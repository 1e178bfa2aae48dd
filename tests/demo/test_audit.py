"""What the demo counts as lost, doubled and torn, and when its claims hold."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from demo.audit import (
    ArmCounts,
    ModelSwap,
    Outcome,
    PreviewCheck,
    WeightChange,
    audit,
    check_preview,
    count_arms,
    count_other_versions,
    why_torn,
)
from tests.demo.building import EVEN, MODEL_SCORES, OTHER_WEIGHTS, SCORES, WEIGHTS, ranked, sent
from workers.ranking.feed import Feed, FeedItem
from workers.ranking.request import Completion
from workers.ranking.weights import Weights


def test_one_whole_feed_a_request_is_clean() -> None:
    found = audit(
        sent("r1", "r2"), [ranked("r1"), ranked("r2", OTHER_WEIGHTS)], WEIGHTS, MODEL_SCORES
    )
    assert (found.requests, found.feeds, found.clean) == (2, 2, True)
    assert found.by_weights == {("control", EVEN.version): 1, ("control", OTHER_WEIGHTS.version): 1}


def test_a_request_without_a_feed_is_lost() -> None:
    found = audit(sent("r1", "r2"), [ranked("r2")], WEIGHTS, MODEL_SCORES)
    assert (found.lost, found.doubled, found.torn, found.clean) == (["r1"], [], [], False)


def test_a_request_with_two_feeds_is_doubled() -> None:
    found = audit(sent("r1"), [ranked("r1"), ranked("r1")], WEIGHTS, MODEL_SCORES)
    assert (found.lost, found.doubled, found.torn, found.clean) == ([], ["r1"], [], False)


def test_a_feed_of_a_request_that_was_never_sent_is_torn() -> None:
    found = audit(sent("r1"), [ranked("r1"), ranked("stranger")], WEIGHTS, MODEL_SCORES)
    assert [request_id for request_id, _ in found.torn] == ["stranger"]


def test_a_feed_with_halves_of_two_sets_of_weights_is_torn() -> None:
    half = Weights.of({"quality": 0.1, "engagement": 0.5})
    assert "not a set that was in force" in (
        why_torn(ranked("r", half), SCORES, WEIGHTS, MODEL_SCORES) or ""
    )


def test_a_feed_whose_version_is_not_that_of_its_weights_is_torn() -> None:
    feed = ranked("r", Weights(EVEN.values, OTHER_WEIGHTS.version))
    assert why_torn(feed, SCORES, WEIGHTS, MODEL_SCORES) is not None


def test_a_feed_ranked_under_other_weights_than_it_says_is_torn() -> None:
    feed = replace(ranked("r", OTHER_WEIGHTS), weights=EVEN)
    assert "not the weighted sum" in (why_torn(feed, SCORES, WEIGHTS, MODEL_SCORES) or "")


def test_a_feed_out_of_order_is_torn() -> None:
    feed = ranked("r")
    assert "order" in (
        why_torn(replace(feed, items=feed.items[::-1]), SCORES, WEIGHTS, MODEL_SCORES) or ""
    )


def test_adjustments_belong_to_the_sum_that_a_final_score_must_be() -> None:
    first, *rest = ranked("r").items
    final = first.final_score
    adjusted = first._replace(final_score=final - 0.25, adjustments={"diversity": -0.25})
    feed = replace(ranked("r"), items=sorted([adjusted, *rest], key=lambda item: -item.final_score))
    assert why_torn(feed, SCORES, WEIGHTS, MODEL_SCORES) is None
    unsaid = replace(feed, items=[item._replace(adjustments={}) for item in feed.items])
    assert "plus its adjustments" in (why_torn(unsaid, SCORES, WEIGHTS, MODEL_SCORES) or "")


def test_equal_final_scores_stand_in_order_of_item_id() -> None:
    items = [FeedItem(item_id, 0.5, (0.5, 0.5)) for item_id in ("a", "b")]
    feed, alike = replace(ranked("r"), items=items), {1: {"a": 0.5, "b": 0.5}}
    models = {"quality": alike, "engagement": alike}
    assert why_torn(feed, SCORES, WEIGHTS, models) is None
    assert "order" in (why_torn(replace(feed, items=items[::-1]), SCORES, WEIGHTS, models) or "")


def test_a_feed_with_a_post_twice_is_torn() -> None:
    feed = ranked("r")
    assert (
        why_torn(replace(feed, items=[feed.items[0], *feed.items]), SCORES, WEIGHTS, MODEL_SCORES)
        is not None
    )


def test_a_feed_closed_by_its_deadline_is_partial_and_not_torn() -> None:
    feed = ranked("r1")
    found = audit(
        sent("r1"),
        [replace(feed, items=feed.items[:2], completion=Completion.DEADLINE)],
        WEIGHTS,
        MODEL_SCORES,
    )
    assert (found.partial, found.clean) == (["r1"], True)


def test_a_feed_under_the_weights_of_another_arm_is_torn() -> None:
    written = {"control": (EVEN,), "canary": (OTHER_WEIGHTS,)}
    canary = replace(ranked("r", OTHER_WEIGHTS), arm="canary")
    assert why_torn(canary, SCORES, written, MODEL_SCORES) is None
    assert "for the arm control" in (
        why_torn(replace(canary, arm="control"), SCORES, written, MODEL_SCORES) or ""
    )
    assert "for the arm canary" in (
        why_torn(replace(canary, weights=EVEN), SCORES, written, MODEL_SCORES) or ""
    )
    assert "for the arm stranger" in (
        why_torn(replace(canary, arm="stranger"), SCORES, written, MODEL_SCORES) or ""
    )


def test_feeds_are_counted_by_the_version_of_each_model() -> None:
    found = audit(sent("r1", "r2"), [ranked("r1"), ranked("r2", version=2)], WEIGHTS, MODEL_SCORES)
    assert found.clean
    assert found.by_model == {("quality", 1): 1, ("quality", 2): 1, ("engagement", 1): 2}


def test_a_feed_that_names_another_version_than_the_one_that_scored_it_is_torn() -> None:
    feed = replace(ranked("r"), models={"quality": 2, "engagement": 1})
    assert "not all of its scores of quality are those of quality/2" in (
        why_torn(feed, SCORES, WEIGHTS, MODEL_SCORES) or ""
    )


def test_a_feed_scored_by_two_versions_of_one_model_is_torn_whichever_it_names() -> None:
    old, new = (
        {item.item_id: item for item in ranked("r", version=version).items} for version in (1, 2)
    )
    items = sorted([old["a"], new["b"], old["c"]], key=lambda item: -item.final_score)
    for version in (1, 2):
        mixed = replace(ranked("r", version=version), items=items)
        assert "not all of its scores of quality" in (
            why_torn(mixed, SCORES, WEIGHTS, MODEL_SCORES) or ""
        )


def test_a_feed_by_a_version_that_was_never_in_force_or_without_one_for_each_weight_is_torn() -> (
    None
):
    refused = replace(ranked("r"), models={"quality": 3, "engagement": 1})
    assert "quality/3" in (why_torn(refused, SCORES, WEIGHTS, MODEL_SCORES) or "")
    less = replace(ranked("r"), models={"quality": 1})
    assert "its models are of quality, its weights of quality, engagement" in (
        why_torn(less, SCORES, WEIGHTS, MODEL_SCORES) or ""
    )


def test_a_feed_ranked_under_the_previewed_weights_is_as_previewed() -> None:
    assert check_preview(
        [(ranked("r"), ranked("r-again", OTHER_WEIGHTS))], OTHER_WEIGHTS
    ) == PreviewCheck(1, 1)


def test_a_feed_under_other_weights_or_of_other_scores_is_not_as_previewed() -> None:
    turned = ranked("r-again", OTHER_WEIGHTS)
    item = turned.items[0]
    other = [item._replace(final_score=math.nextafter(item.final_score, 1)), *turned.items[1:]]
    pairs = [(ranked("r"), ranked("r-again")), (ranked("r"), replace(turned, items=other))]
    found = check_preview(pairs, OTHER_WEIGHTS)
    assert (found, found.holds) == (PreviewCheck(2, 0), False)


def test_a_feed_that_came_in_part_is_not_compared_with_its_preview() -> None:
    part = replace(ranked("r"), completion=Completion.DEADLINE)
    assert check_preview(
        [(part, ranked("r", OTHER_WEIGHTS)), (ranked("r"), part)], OTHER_WEIGHTS
    ) == PreviewCheck(0, 0)


def test_users_who_come_again_are_counted_and_those_in_two_arms_too() -> None:
    def feed(user: str, arm: str) -> Feed:
        return replace(ranked("r"), user_id=user, arm=arm)

    once, same = feed("once", "canary"), [feed("same", "control")] * 3
    found = count_arms([once, *same, feed("both", "canary"), feed("both", "control")])
    assert found == ArmCounts({"canary": 2, "control": 4}, returning=2, in_two_arms=1)
    assert f"{found.percent('control'):.1f} % of {found.total}" == "66.7 % of 6"


def test_feeds_by_another_version_than_the_pinned_one_are_counted() -> None:
    feeds = [ranked("r1"), ranked("r2", version=2), ranked("r3")]
    assert count_other_versions(feeds, "quality", 1) == 1
    assert count_other_versions(feeds, "engagement", 1) == 0


GOOD = Outcome(
    audit=audit(sent("r1"), [ranked("r1")], WEIGHTS, MODEL_SCORES),
    weight_change=WeightChange(started_at=10, returned_at=12, ranked_at=15, readable_at=20),
    before=ranked("r1"),
    after=ranked("r1-again", OTHER_WEIGHTS),
    preview=PreviewCheck(compared=2, as_previewed=2),
    arms=ArmCounts({"control": 2}, returning=1, in_two_arms=0),
    model_swap=ModelSwap(ranked_ms=500, refused="hash", pinned=100, others=0),
)
LOST = audit(sent("r1"), [], WEIGHTS, MODEL_SCORES)


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
