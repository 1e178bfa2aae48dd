"""From closed requests to feeds, with models that are there, still loading, or lacking."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import request, surface
from tests.scoring.building import WIDE, add_model, mlp, random_rows
from workers.pipeline import rank_requests
from workers.ranking.feed import RemovalReason
from workers.ranking.mix import Mix
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
