"""From closed requests to feeds, with models that are there, still loading, or lacking."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.builders import request, surface
from tests.scoring.building import WIDE, add_model, mlp, random_rows
from workers.pipeline import rank_requests
from workers.ranking.drop_set import DropSet, Whose
from workers.ranking.lookup import Answers, Questions, SetOf
from workers.ranking.mix import Mix
from workers.ranking.removal import Removal, RemovalReason
from workers.ranking.request import Request
from workers.ranking.weights import Weights
from workers.scoring.library import Library

HOME, SEARCH = surface(feature_set=WIDE), surface("search", feature_set=WIDE)
PLAIN = Mix(HOME.weight_rules.default())


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    for version in (1, 2):
        add_model(tmp_path, mlp(seed=version), "quality", version)
        add_model(tmp_path, mlp(seed=10 + version), "engagement", version)
    with Library(tmp_path, {"home": HOME, "search": SEARCH}, 2**26) as entered:
        yield entered


def asking(name: str, where: str = "home") -> Request:
    on = HOME if where == "home" else SEARCH
    return request(["b", "a"], request_id=name, surface=on, rows=random_rows(2).tobytes())


def test_requests_whose_models_are_loading_wait_and_those_of_other_surfaces_go_on(library: Library) -> None:
    pinned = Mix(PLAIN.weights, pins={"quality": 1})
    mixes = {"home": pinned, "search": PLAIN}
    ranked = rank_requests([asking("r"), asking("s", "search")], library, mixes.__getitem__, lambda _: 5)
    assert ranked.feeds[0] is None
    assert ranked.feeds[1] is not None
    assert ranked.feeds[1].models == {"quality": 2, "engagement": 2}
    revision = library.catalogue.revision
    while (feed := rank_requests([asking("r")], library, mixes.__getitem__, lambda _: 5).feeds[0]) is None:
        assert library.wait_past(revision, 20)
        revision = library.catalogue.revision
    assert feed.models == {"quality": 1, "engagement": 2}


def test_a_request_that_waits_for_models_costs_no_look_up_and_its_feed_is_ranked_by_one_answer(
    library: Library,
) -> None:
    looking = surface(feature_set=WIDE, drop=(DropSet("seen", Whose.USER),))
    asked: list[Questions] = []

    def look_up(questions: Questions) -> Answers:
        asked.append(questions)
        return Answers({SetOf("seen", "u"): {"a"}}, {})

    pinned = Mix(PLAIN.weights, pins={"quality": 1})
    waiting = asking("r")._replace(surface=looking)
    feed, turns = None, 0
    while feed is None:
        revision = library.catalogue.revision
        ranked = rank_requests([waiting], library, lambda _: pinned, lambda _: 5, look_up=look_up)
        feed, turns = ranked.feeds[0], turns + 1
        assert feed is not None or (asked == [] and library.wait_past(revision, 20))
    assert turns > 1
    assert asked == [Questions({SetOf("seen", "u"): ("b", "a")}, {})]
    assert [item.item_id for item in feed.items] == ["b"]
    assert (feed.removed, ranked.dropped) == ([Removal("a", "seen")], 1)


def test_a_feed_whose_every_candidate_is_dropped_has_no_items_and_says_why(library: Library) -> None:
    looking = surface(feature_set=WIDE, drop=(DropSet("seen", Whose.USER),))
    answers = Answers({SetOf("seen", "u"): {"a", "b"}}, {})
    requests = [asking("r")._replace(surface=looking), asking("s")]
    dropped, plain = rank_requests(requests, library, lambda _: PLAIN, lambda _: 5, look_up=lambda _: answers).feeds
    assert dropped is not None
    assert plain is not None
    assert (dropped.items, dropped.models) == ([], {"quality": 2, "engagement": 2})
    assert dropped.removed == [Removal("a", "seen"), Removal("b", "seen")]
    assert (len(plain.items), plain.removed, plain.skipped) == (2, [], [])


def test_looked_up_features_are_clipped_and_counted_as_those_of_events_are(library: Library) -> None:
    bounded = replace(WIDE, bounds={"f0": (-0.5, 0.5)})
    looking = surface(feature_set=bounded, lookup_features=True)
    row = np.full(32, 2.0, np.float32).tobytes()
    found = asking("r")._replace(surface=looking, rows=bounded.absent_row + row)
    given = asking("r")._replace(surface=looking, rows=row + row)
    answers = Answers({}, {"wide": {"b": row}})
    looked_up, plain = (
        rank_requests([request], library, lambda _: PLAIN, lambda _: 5, look_up=lambda _: answers)
        for request in (found, given)
    )
    assert looked_up == plain
    assert (plain.clipped, plain.defaulted) == (2, 0)
    skipped = rank_requests([found], library, lambda _: PLAIN, lambda _: 5)
    assert (skipped.defaulted, skipped.without_lookups) == (1, 1)


def test_a_request_that_is_overdue_ends_in_a_feed_that_says_that_nothing_was_scored(library: Library) -> None:
    pinned = Mix(PLAIN.weights, pins={"quality": 1})
    ranked = rank_requests([asking("r")], library, lambda _: pinned, lambda _: 5, lambda _: True)
    (feed,) = ranked.feeds
    assert feed is not None
    assert (feed.items, feed.models, ranked.unscored) == ([], {}, 1)
    assert [(r.item_id, r.reason) for r in feed.removed] == [(i, RemovalReason.NOT_SCORED) for i in ("a", "b")]


def test_a_request_that_lacks_a_model_does_not_wait(library: Library) -> None:
    mix = Mix(Weights.of({"quality": 1.0, "speed": 1.0}))
    ranked = rank_requests([asking("r")], library, lambda _: mix, lambda _: 5)
    assert [feed is not None and feed.models == {} for feed in ranked.feeds] == [True]


def test_the_objectives_are_those_of_the_weights_also_where_the_surface_does_not_name_them(
    library: Library, tmp_path: Path
) -> None:
    add_model(tmp_path, mlp(seed=30), "virality")
    while library.catalogue.entry("virality", 1) is None:
        assert library.wait_past(library.catalogue.revision, 20)
    mix = Mix(Weights.of({"quality": 0.5, "virality": 0.5}))
    feed = None
    while feed is None:
        revision = library.catalogue.revision
        feed = rank_requests([asking("r")], library, lambda _: mix, lambda _: 5).feeds[0]
        assert feed is not None or library.wait_past(revision, 20)
    assert feed.models == {"quality": 2, "virality": 1}
    assert len(feed.items[0].scores) == 2
