"""What the ranking of a micro-batch looks up by id, and what becomes of its requests with the
answers.

Questions and answers are plain values: who asks is passed in. A question without an answer is a
look-up that was skipped. The request is then ranked without it, and its feed says so: the same
answers give the same feeds.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.ranking.feed import Feed
from workers.ranking.removal import Removal
from workers.ranking.request import Request
from workers.ranking.surface import FEATURES


class SetKey(NamedTuple):
    """One set: a drop set's name and whose it is, a user's id or a surface's name."""

    name: str
    owner: str


class LookupQuery(NamedTuple):
    """Which of these items each set holds, and what features these items have, by feature set; each
    item once.
    """

    sets: Mapping[SetKey, Sequence[str]]
    features: Mapping[str, Sequence[str]]


class LookupResult(NamedTuple):
    """Those of the items that each set holds, and the values found by feature set and item.

    A set or a feature set that is not named here did not answer; an item that is not named has no
    value.
    """

    members: Mapping[SetKey, Collection[str]]
    features: Mapping[str, Mapping[str, bytes]]


LookUp = Callable[[LookupQuery], LookupResult]
NO_RESULT = LookupResult({}, {})


def skip_lookups(_: LookupQuery) -> LookupResult:
    """Where there is nobody to ask."""
    return NO_RESULT


@dataclass(frozen=True, slots=True)
class HydratedRequest:
    """A request as it is ranked: without what was dropped, and with features for every candidate.

    `skipped` names the look-ups it was ranked without, in the order in which the surface asks;
    `defaulted` the items that have default features, by item id.
    """

    request: Request
    dropped: tuple[Removal, ...] = ()
    skipped: tuple[str, ...] = ()
    defaulted: tuple[str, ...] = ()

    def annotate(self, feed: Feed) -> Feed:
        """The feed, with what the look-ups did to it on its record."""
        if not self.request.surface.looks_up:
            return feed
        removed = sorted([*feed.removed, *self.dropped])
        return replace(
            feed, removed=removed, skipped=list(self.skipped), defaulted=list(self.defaulted)
        )


def hydrate(requests: Sequence[Request], look_up: LookUp) -> list[HydratedRequest]:
    """Look up what these requests need, all of it at once; nobody is asked where none needs
    anything.
    """
    questions = query_for(requests)
    answers = look_up(questions) if questions.sets or questions.features else NO_RESULT
    return [_inform(request, answers) for request in requests]


def query_for(requests: Iterable[Request]) -> LookupQuery:
    """What a micro-batch asks; each set is asked once, and so is each item's row."""
    sets: dict[SetKey, dict[str, None]] = {}
    features: dict[str, dict[str, None]] = {}
    for request in requests:
        if not request.surface.looks_up or not request.item_ids:
            continue
        for one in _sets_of(request):
            sets.setdefault(one, {}).update(dict.fromkeys(request.item_ids))
        lacking = [request.item_ids[place] for place in _lacking(request)]
        if lacking:
            features.setdefault(request.surface.feature_set.name, {}).update(dict.fromkeys(lacking))
    return LookupQuery(
        {s: tuple(items) for s, items in sets.items()},
        {f: tuple(items) for f, items in features.items()},
    )


def _sets_of(request: Request) -> Iterator[SetKey]:
    surface = request.surface
    return (SetKey(one.name, one.owner_id(surface.name, request.user_id)) for one in surface.drop)


def _matrix(request: Request) -> NDArray[np.float32]:
    return np.frombuffer(request.rows, "<f4").reshape(-1, request.surface.feature_set.width)


def _lacking(request: Request) -> list[int]:
    """The places of candidates without features. No sound row has a NaN in it: the first number
    tells.
    """
    if not request.surface.lookup_features:
        return []
    places: list[int] = np.flatnonzero(np.isnan(_matrix(request)[:, 0])).tolist()
    return places


def _inform(request: Request, answers: LookupResult) -> HydratedRequest:
    if not request.surface.looks_up or not request.item_ids:
        return HydratedRequest(request)
    reasons, skipped = _reasons(request, answers)
    kept = _without(request, reasons) if reasons else request
    filled, defaulted = _filled(kept, answers.features.get(request.surface.feature_set.name))
    dropped = tuple(Removal(item_id, reason) for item_id, reason in sorted(reasons.items()))
    lost = (
        [FEATURES] if defaulted and request.surface.feature_set.name not in answers.features else []
    )
    return HydratedRequest(filled, dropped, (*skipped, *lost), defaulted)


def _reasons(request: Request, answers: LookupResult) -> tuple[dict[str, str], list[str]]:
    """Why items are dropped: by item, the first set of the surface that holds it. Also which sets
    are skipped.
    """
    reasons: dict[str, str] = {}
    skipped: list[str] = []
    for one in _sets_of(request):
        held = answers.members.get(one)
        if held is None:
            skipped.append(one.name)
            continue
        for item_id in request.item_ids:
            if item_id in held:
                reasons.setdefault(item_id, one.name)
    return reasons, skipped


def _without(request: Request, gone: Collection[str]) -> Request:
    places = [place for place, item_id in enumerate(request.item_ids) if item_id not in gone]
    return request._replace(
        item_ids=tuple(request.item_ids[place] for place in places),
        sources=tuple(request.sources[place] for place in places),
        rows=_matrix(request)[places].tobytes(),
    )


def _filled(request: Request, found: Mapping[str, bytes] | None) -> tuple[Request, tuple[str, ...]]:
    """The request with a row for every candidate; and the items whose row is the default."""
    lacking = _lacking(request)
    if not lacking:
        return request, ()
    feature_set, values, defaulted = request.surface.feature_set, found or {}, list[str]()
    matrix = _matrix(request).copy()
    for place in lacking:
        item_id = request.item_ids[place]
        row = feature_set.read_row(values.get(item_id))
        if row is None:
            row = feature_set.default_row
            defaulted.append(item_id)
        matrix[place] = np.frombuffer(row, "<f4")
    return request._replace(rows=matrix.tobytes()), tuple(sorted(defaulted))
