"""What a micro-batch looks up by id, and what the results do to its requests.

- A query and its result are plain values. Whoever makes the look-up is passed in: Redis in a
  worker, a file in `trimtab rank`.
- A set or a feature set that is missing from the result was skipped. The request is then ranked
  without it, and its feed says so.
- The same results give the same feeds.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.ranking.feed import Feed
from workers.ranking.removal import Removal
from workers.ranking.request import Request, pick_rows
from workers.ranking.surface import FEATURES


class SetKey(NamedTuple):
    """One set: the name of a drop set and its owner, which is a user's id or a surface's name."""

    name: str
    owner: str


class LookupQuery(NamedTuple):
    """Item ids to look up, each once: in which sets they are, and their features by feature set."""

    sets: Mapping[SetKey, Sequence[str]]
    features: Mapping[str, Sequence[str]]


class LookupResult(NamedTuple):
    """Those of the items that are members of each set, and features by feature set and item.

    A set or a feature set that is not a key here was skipped. An item that is not a key has no
    features. A value is as it was stored, and not checked yet.
    """

    members: Mapping[SetKey, Collection[str]]
    features: Mapping[str, Mapping[str, bytes]]


NO_RESULT = LookupResult({}, {})
"""Everything was skipped."""

LookUp = Callable[[LookupQuery], LookupResult]


def skip_lookups(_: LookupQuery) -> LookupResult:
    """A look-up that skips everything."""
    return NO_RESULT


class HydratedRequest(NamedTuple):
    """A request as it is ranked: without dropped items, and with features for every candidate.

    `skipped` names the look-ups that it is ranked without, in the surface's order. `defaulted` are
    the items with default features, sorted.
    """

    request: Request
    dropped: tuple[Removal, ...] = ()
    skipped: tuple[str, ...] = ()
    defaulted: tuple[str, ...] = ()

    def annotate(self, feed: Feed) -> Feed:
        """The feed of this request, with what the look-ups did to it on its record."""
        if not self.request.surface.has_lookups:
            return feed
        return feed._replace(
            removed=sorted([*feed.removed, *self.dropped]),
            skipped=list(self.skipped),
            defaulted=list(self.defaulted),
        )


def hydrate(requests: Sequence[Request], look_up: LookUp) -> list[HydratedRequest]:
    """Look up what these requests need, in one call. No call if nothing has to be looked up."""
    query = query_for(requests)
    result = NO_RESULT
    if query.sets or query.features:
        result = look_up(query)
    return [_hydrate_request(request, result) for request in requests]


def query_for(requests: Iterable[Request]) -> LookupQuery:
    """What these requests have to look up. Each set and each item is looked up only once."""
    # The inner dicts are ordered sets.
    sets: dict[SetKey, dict[str, None]] = {}
    features: dict[str, dict[str, None]] = {}
    for request in requests:
        if not request.surface.has_lookups or not request.item_ids:
            continue

        for key in _set_keys(request):
            sets.setdefault(key, {}).update(dict.fromkeys(request.item_ids))

        lacking = [request.item_ids[index] for index in _without_features(request)]
        if lacking:
            feature_set = request.surface.feature_set.name
            features.setdefault(feature_set, {}).update(dict.fromkeys(lacking))

    return LookupQuery(
        sets={key: tuple(items) for key, items in sets.items()},
        features={name: tuple(items) for name, items in features.items()},
    )


def _hydrate_request(request: Request, result: LookupResult) -> HydratedRequest:
    if not request.surface.has_lookups or not request.item_ids:
        return HydratedRequest(request)

    skipped = [key.name for key in _set_keys(request) if key not in result.members]
    reasons = _drop_reasons(request, result)
    if reasons:
        request = _without_items(request, reasons)

    feature_set = request.surface.feature_set.name
    request, defaulted = _fill_in_features(request, result.features.get(feature_set, {}))
    if defaulted and feature_set not in result.features:
        skipped.append(FEATURES)

    return HydratedRequest(
        request=request,
        dropped=tuple(Removal(item_id, reason) for item_id, reason in sorted(reasons.items())),
        skipped=tuple(skipped),
        defaulted=tuple(defaulted),
    )


def _set_keys(request: Request) -> list[SetKey]:
    """The sets that hold what a request must not show, in the surface's order."""
    keys = list[SetKey]()
    for drop_set in request.surface.drop:
        owner = drop_set.owner_id(request.surface.name, request.user_id)
        keys.append(SetKey(drop_set.name, owner))
    return keys


def _without_features(request: Request) -> list[int]:
    """The indices of the candidates that came without features."""
    if not request.surface.lookup_features:
        return []
    # Their rows are all NaN, and no valid row has a NaN: the first number of a row is enough.
    is_absent = np.isnan(_feature_matrix(request)[:, 0])
    indices: list[int] = np.flatnonzero(is_absent).tolist()
    return indices


def _feature_matrix(request: Request) -> NDArray[np.float32]:
    """`[candidates, features]`, read-only."""
    return np.frombuffer(request.rows, "<f4").reshape(-1, request.surface.feature_set.width)


def _drop_reasons(request: Request, result: LookupResult) -> dict[str, str]:
    """By item: the first set of the surface that holds it, which is why it is dropped."""
    reasons: dict[str, str] = {}
    for key in _set_keys(request):
        members = result.members.get(key, ())
        for item_id in request.item_ids:
            if item_id in members:
                reasons.setdefault(item_id, key.name)
    return reasons


def _without_items(request: Request, dropped: Collection[str]) -> Request:
    kept: list[int] = []
    for index, item_id in enumerate(request.item_ids):
        if item_id not in dropped:
            kept.append(index)

    sources = request.sources
    return request._replace(
        item_ids=tuple([request.item_ids[index] for index in kept]),
        sources=None if sources is None else tuple([sources[index] for index in kept]),
        rows=pick_rows(request.rows, request.surface.feature_set.row_bytes, kept),
    )


def _fill_in_features(request: Request, features: Mapping[str, bytes]) -> tuple[Request, list[str]]:
    """The request with features for every candidate, and the sorted items that have the defaults.

    An item has the default features if it has none, or if they are not a valid row.
    """
    indices = _without_features(request)
    if not indices:
        return request, []

    feature_set = request.surface.feature_set
    matrix = _feature_matrix(request).copy()
    defaulted: list[str] = []
    for index in indices:
        item_id = request.item_ids[index]
        row = feature_set.read_row(features.get(item_id))
        if row is None:
            row = feature_set.default_row
            defaulted.append(item_id)
        matrix[index] = np.frombuffer(row, "<f4")
    return request._replace(rows=matrix.tobytes()), sorted(defaulted)
