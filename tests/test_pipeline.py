"""From closed requests to feeds, with models that are loaded, still loading, or missing."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.builders import request, surface
from tests.scoring.building import WIDE, add_model, embedding, mlp, random_rows
from workers.pipeline import rank_requests
from workers.ranking.lookup import LookupQuery, LookupResult, SetKey
from workers.ranking.mix import Mix
from workers.ranking.removal import Removal, RemovalReason
from workers.ranking.request import Request
from workers.ranking.rerank import rerank
from workers.ranking.surface import DropSet, SetOwner
from workers.ranking.weights import Weights
from workers.scoring.registry import Registry

HOME, SEARCH = surface(feature_set=WIDE), surface("search", feature_set=WIDE)
PLAIN = Mix(HOME.weight_rules.default())


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    for version in (1, 2):
        add_model(tmp_path, mlp(seed=version), "quality", version)
        add_model(tmp_path, mlp(seed=10 + version), "engagement", version)
    with Registry(tmp_path, {"home": HOME, "search": SEARCH}, 2**26) as entered:
        yield entered


def request_on(name: str, where: str = "home") -> Request:
    on = HOME if where == "home" else SEARCH
    return request(["b", "a"], request_id=name, surface=on, rows=random_rows(2).tobytes())


def test_requests_whose_models_are_loading_wait_and_those_of_other_surfaces_go_on(
    registry: Registry,
) -> None:
    pinned = Mix(PLAIN.weights, pins={"quality": 1})
    mixes = {"home": pinned, "search": PLAIN}
    ranked = rank_requests(
        [request_on("r"), request_on("s", "search")], registry, mixes.__getitem__, lambda _: 5
    )
    assert ranked.feeds[0] is None
    assert ranked.feeds[1] is not None
    assert ranked.feeds[1].models == {"quality": 2, "engagement": 2}
    revision = registry.catalogue.revision
    while (
        feed := rank_requests([request_on("r")], registry, mixes.__getitem__, lambda _: 5).feeds[0]
    ) is None:
        assert registry.wait_past(revision, 20)
        revision = registry.catalogue.revision
    assert feed.models == {"quality": 1, "engagement": 2}


def test_a_request_that_waits_for_models_costs_no_look_up_and_its_feed_is_ranked_by_one_result(
    registry: Registry,
) -> None:
    looking = surface(feature_set=WIDE, drop=(DropSet("seen", SetOwner.USER),))
    queries: list[LookupQuery] = []

    def look_up(query: LookupQuery) -> LookupResult:
        queries.append(query)
        return LookupResult({SetKey("seen", "u"): {"a"}}, {})

    pinned = Mix(PLAIN.weights, pins={"quality": 1})
    waiting = request_on("r")._replace(surface=looking)
    feed, turns = None, 0
    while feed is None:
        revision = registry.catalogue.revision
        ranked = rank_requests([waiting], registry, lambda _: pinned, lambda _: 5, look_up=look_up)
        feed, turns = ranked.feeds[0], turns + 1
        assert feed is not None or (queries == [] and registry.wait_past(revision, 20))
    assert turns > 1
    assert queries == [LookupQuery({SetKey("seen", "u"): ("b", "a")}, {})]
    assert [item.item_id for item in feed.items] == ["b"]
    assert (feed.removed, ranked.dropped) == ([Removal("a", "seen")], 1)


def test_a_feed_whose_every_candidate_is_dropped_has_no_items_and_says_why(
    registry: Registry,
) -> None:
    looking = surface(feature_set=WIDE, drop=(DropSet("seen", SetOwner.USER),))
    result = LookupResult({SetKey("seen", "u"): {"a", "b"}}, {})
    requests = [request_on("r")._replace(surface=looking), request_on("s")]
    dropped, plain = rank_requests(
        requests, registry, lambda _: PLAIN, lambda _: 5, look_up=lambda _: result
    ).feeds
    assert dropped is not None
    assert plain is not None
    assert (dropped.items, dropped.models) == ([], {"quality": 2, "engagement": 2})
    assert dropped.removed == [Removal("a", "seen"), Removal("b", "seen")]
    assert (len(plain.items), plain.removed, plain.skipped) == (2, [], [])


def test_looked_up_features_are_clipped_and_counted_as_those_of_events_are(
    registry: Registry,
) -> None:
    bounded = replace(WIDE, bounds={"f0": (-0.5, 0.5)})
    looking = surface(feature_set=bounded, lookup_features=True)
    row = np.full(32, 2.0, np.float32).tobytes()
    absent = request_on("r")._replace(surface=looking, rows=bounded.absent_row + row)
    given = request_on("r")._replace(surface=looking, rows=row + row)
    result = LookupResult({}, {"wide": {"b": row}})
    looked_up, plain = (
        rank_requests([request], registry, lambda _: PLAIN, lambda _: 5, look_up=lambda _: result)
        for request in (absent, given)
    )
    assert looked_up._replace(score_ns={}) == plain._replace(score_ns={})
    assert (plain.clipped, plain.defaulted) == (2, 0)
    skipped = rank_requests([absent], registry, lambda _: PLAIN, lambda _: 5)
    assert (skipped.defaulted, skipped.without_lookups) == (1, 1)


def test_a_request_that_is_overdue_ends_in_a_feed_that_says_that_nothing_was_scored(
    registry: Registry,
) -> None:
    pinned = Mix(PLAIN.weights, pins={"quality": 1})
    ranked = rank_requests(
        [request_on("r")], registry, lambda _: pinned, lambda _: 5, lambda _: True
    )
    (feed,) = ranked.feeds
    assert feed is not None
    assert (feed.items, feed.models, ranked.unscored) == ([], {}, 1)
    assert [(r.item_id, r.reason) for r in feed.removed] == [
        (i, RemovalReason.NOT_SCORED) for i in ("a", "b")
    ]


def test_a_request_that_lacks_a_model_does_not_wait(registry: Registry) -> None:
    mix = Mix(Weights.of({"quality": 1.0, "speed": 1.0}))
    ranked = rank_requests([request_on("r")], registry, lambda _: mix, lambda _: 5)
    assert [feed is not None and feed.models == {} for feed in ranked.feeds] == [True]


def test_the_objectives_are_those_of_the_weights_even_if_the_surface_does_not_name_them(
    registry: Registry, tmp_path: Path
) -> None:
    add_model(tmp_path, mlp(seed=30), "virality")
    while registry.catalogue.entry("virality", 1) is None:
        assert registry.wait_past(registry.catalogue.revision, 20)
    mix = Mix(Weights.of({"quality": 0.5, "virality": 0.5}))
    feed = None
    while feed is None:
        revision = registry.catalogue.revision
        feed = rank_requests([request_on("r")], registry, lambda _: mix, lambda _: 5).feeds[0]
        assert feed is not None or registry.wait_past(revision, 20)
    assert feed.models == {"quality": 2, "virality": 1}
    assert len(feed.items[0].scores) == 2


# Models that fail


Events = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def fallible(tmp_path: Path) -> Iterator[tuple[Registry, Events]]:
    """A registry whose `quality` fails on rows whose f1 is 1000, and what it logs of failures."""
    add_model(tmp_path, embedding(), "quality")
    add_model(tmp_path, mlp(seed=1), "engagement")
    events: Events = []

    def say(event: str, /, **fields: Any) -> None:
        if event == "model_error":
            events.append((event, fields))

    with Registry(tmp_path, {"home": HOME, "search": SEARCH}, 2**26, say) as entered:
        yield entered, events


def of_rows(name: str, bad: list[int], count: int = 6, where: str = "home") -> Request:
    rows = random_rows(count)
    rows[bad, 1] = 1000.0
    failing = request_on(name, where)
    return failing._replace(
        item_ids=tuple("abcdef"[:count]), sources=(None,) * count, rows=rows.tobytes()
    )


def fail_altogether(registry: Registry, objective: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = registry.catalogue.entry(objective, 1)
    assert entry is not None
    assert entry.cached_session is not None

    class Broken:
        def run(self, outputs: list[str], inputs: dict[str, Any], _options: object) -> Any:
            raise MemoryError

    monkeypatch.setattr(entry.cached_session, "session", Broken())


def test_a_candidate_that_a_model_fails_on_is_removed_and_the_others_are_ranked_as_always(
    fallible: tuple[Registry, Events],
) -> None:
    registry, events = fallible
    rank = partial(rank_requests, registry=registry, mix_of=lambda _: PLAIN, ranked_at=lambda _: 5)
    intact, other = rank([of_rows("r", []), of_rows("s", [], where="search")]).feeds
    ranked = rank([of_rows("r", [1, 4]), of_rows("s", [], where="search")])
    spoilt, untouched = ranked.feeds
    assert intact is not None
    assert spoilt is not None
    assert untouched == other
    assert spoilt.items == [item for item in intact.items if item.item_id not in "be"]
    assert spoilt.removed == [Removal("b", "model-error"), Removal("e", "model-error")]
    assert (spoilt.models, ranked.model_errors, ranked.unscored) == (intact.models, 2, 0)
    assert len(events) == 1


def test_a_failure_is_logged_once_for_each_version_however_often_it_comes(
    fallible: tuple[Registry, Events],
) -> None:
    registry, events = fallible
    for number in range(5):
        rank_requests([of_rows(f"r{number}", [number])], registry, lambda _: PLAIN, lambda _: 5)
    ((event, fields),) = events
    assert (event, fields["model"]) == ("model_error", "quality/1")
    assert "f1 1000" in fields["features"]
    assert "idx=1000" in fields["error"]


def test_a_request_whose_every_candidate_fails_has_an_empty_feed_that_says_so(
    fallible: tuple[Registry, Events],
) -> None:
    registry, _ = fallible
    (feed,) = rank_requests(
        [of_rows("r", [0, 1], count=2)], registry, lambda _: PLAIN, lambda _: 5
    ).feeds
    assert feed is not None
    assert (feed.items, feed.models) == ([], {"quality": 1, "engagement": 1})
    assert feed.removed == [Removal("a", "model-error"), Removal("b", "model-error")]


def test_if_a_model_fails_altogether_feeds_say_that_nothing_was_scored(
    fallible: tuple[Registry, Events], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, events = fallible
    fail_altogether(registry, "quality", monkeypatch)
    looking = surface(feature_set=WIDE, drop=(DropSet("seen", SetOwner.USER),))
    failing = of_rows("r", [])._replace(surface=looking)
    result = LookupResult({SetKey("seen", "u"): {"a"}}, {})
    for _ in range(3):
        ranked = rank_requests(
            [failing], registry, lambda _: PLAIN, lambda _: 5, look_up=lambda _: result
        )
        (feed,) = ranked.feeds
        assert feed is not None
        assert (feed.items, feed.models) == ([], {})
        assert feed.removed == [Removal(item_id, "not-scored") for item_id in "abcdef"]
        assert (ranked.unscored, ranked.model_errors, ranked.dropped) == (1, 5, 0)
    ((_, fields),) = events
    assert (fields["features"], fields["error"]) == (
        "any: the model fails on its golden row too",
        "MemoryError",
    )


def test_a_feed_with_a_failed_candidate_is_ranked_again_under_other_weights_without_it(
    fallible: tuple[Registry, Events],
) -> None:
    registry, _ = fallible
    (feed,) = rank_requests([of_rows("r", [2])], registry, lambda _: PLAIN, lambda _: 5).feeds
    assert feed is not None
    again = rerank(feed, Weights.of({"quality": 1.0, "engagement": 0.0}))
    assert again.removed == [Removal("c", "model-error")]
    assert sorted(item.item_id for item in again.items) == ["a", "b", "d", "e", "f"]
