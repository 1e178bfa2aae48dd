"""What is filtered before ranking, and which items exceed the limit of their source."""

import numpy as np

from workers.ranking.rank import (
    LimitedSources,
    ScoredCandidates,
    keep_finite,
    limit_sources,
    source_limit_removals,
)
from workers.ranking.removal import Removal

SCORED = ScoredCandidates(
    ("a", "b", "c"),
    ("s", None, "t"),
    np.array([[0.5, 1.0], [0.25, 0.75], [0.125, 0.0]], np.float32),
)


def test_with_finite_scores_all_stay_as_they_are() -> None:
    kept, removed = keep_finite(SCORED)
    assert kept is SCORED
    assert removed == []


def test_a_candidate_without_a_finite_score_is_removed_with_its_reason_and_the_others_keep_their_sources() -> (
    None
):
    scores = SCORED.scores.copy()
    scores[0, 1] = np.nan
    kept, removed = keep_finite(SCORED._replace(scores=scores))
    assert (kept.item_ids, kept.sources, kept.scores.tolist()) == (
        ("b", "c"),
        (None, "t"),
        scores[1:].tolist(),
    )
    assert removed == [Removal("a", "score-not-finite")]


def test_a_candidate_that_a_model_failed_on_is_removed_with_another_reason() -> None:
    scores = SCORED.scores.copy()
    scores[[0, 2], 1] = np.nan
    kept, removed = keep_finite(SCORED._replace(scores=scores), np.array([False, False, True]))
    assert (kept.item_ids, kept.scores.tolist()) == (("b",), scores[1:2].tolist())
    assert removed == [Removal("a", "score-not-finite"), Removal("c", "model-error")]


def test_the_first_items_of_each_source_stay_and_both_parts_keep_the_order() -> None:
    sources = ("s", "t", "s", "t", "s")
    assert limit_sources([4, 3, 2, 1, 0], sources, 1) == LimitedSources([4, 3], [2, 1, 0])
    assert limit_sources([4, 3, 2, 1, 0], sources, 2) == LimitedSources([4, 3, 2, 1], [0])


def test_a_limit_of_0_keeps_all_and_items_without_a_source_are_not_counted() -> None:
    assert limit_sources([1, 0, 2], ("s", "s", "s"), 0) == LimitedSources([1, 0, 2], [])
    assert limit_sources([1, 0, 2], (None, None, None), 1) == LimitedSources([1, 0, 2], [])


def test_an_item_over_the_limit_keeps_what_it_takes_to_rank_it_again() -> None:
    assert source_limit_removals(SCORED, [2, 1]) == [
        Removal("c", "source-limit", "t", (0.125, 0.0)),
        Removal("b", "source-limit", None, (0.25, 0.75)),
    ]
