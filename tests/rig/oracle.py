"""What the feeds must be, computed apart from the workers' code: plain Python, numpy, and the
weights of the models by hand.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

SURFACES: Mapping[str, Mapping[str, Any]] = {
    "home": {"objectives": ["quality", "engagement"], "top_k": 0},
    "search": {"objectives": ["engagement", "quality"], "top_k": 5},
    "crowd": {
        "objectives": ["quality", "engagement"],
        "diversity": {"decay": 0.6, "floor": 0.2},
        "max_per_source": 4,
    },
    "shelf": {
        "objectives": ["quality", "engagement"],
        "top_k": 0,
        "drop": {"seen": "user", "blocked": "surface"},
    },
}
"""The surfaces that the tests have, and the rules of each."""

Known = Mapping[str, Sequence[Any]]
"""What look-ups find: by the key in Redis, without its prefix, the items of a set or the features
of an item.
"""

TOLERANCE = 2e-6
_DEFAULT_FEATURES = [0.0] * 32


class Perceptron:
    """Relu between the layers, a sigmoid at the end. Read from the ONNX file, computed in float64."""

    def __init__(self, path: Path) -> None:
        constants = {
            constant.name: numpy_helper.to_array(constant).astype(np.float64)
            for constant in onnx.load(path).graph.initializer
        }
        self.layers = [(constants[f"w{i}"], constants[f"b{i}"]) for i in range(len(constants) // 2)]

    def score(self, features: Sequence[float]) -> float:
        """The score of one row of features."""
        return float(self.scores([features])[0])

    def scores(self, rows: Sequence[Sequence[float]]) -> NDArray[np.float64]:
        """The score of each row of features."""
        values: NDArray[np.float64] = np.array(rows, np.float32).astype(np.float64)
        values[:, 0] = np.clip(values[:, 0], -1.0, 1.0)
        for place, (weights, bias) in enumerate(self.layers):
            values = values @ weights + bias
            if place < len(self.layers) - 1:
                values = np.maximum(values, 0.0)
        scores: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-values[:, 0]))
        return scores


class Oracle:
    """Checks feeds against the events that were sent. `models` is the folder of models."""

    def __init__(self, models: Path) -> None:
        self._folder = models
        self._opened: dict[tuple[str, int], Perceptron] = {}

    def model(self, objective: str, version: int) -> Perceptron:
        """One version, opened once."""
        if (objective, version) not in self._opened:
            folder = self._folder / objective / str(version)
            self._opened[objective, version] = Perceptron(folder / "model.onnx")
        return self._opened[objective, version]

    def check(
        self,
        feed: Mapping[str, Any],
        events: Sequence[Mapping[str, Any]],
        known: Known | None = None,
        **expected: Any,
    ) -> None:
        """Fail unless `feed` is the feed of `events`, whatever their order.

        `expected` names further fields. If the surface looks up, the feed says what it was ranked
        without, and `known` holds all the rest.
        """
        first = events[0]
        surface = SURFACES[first["surface"]]
        for key in ("request_id", "surface", "user_id", "requested_at"):
            assert feed[key] == first[key], key
        for key, value in expected.items():
            assert feed[key] == value, (key, feed[key], value)
        assert sorted(feed["models"]) == sorted(feed["weights"]["values"])

        candidates: dict[str, Mapping[str, Any]] = {}
        for event in events:
            for candidate in event["candidates"]:
                candidates.setdefault(candidate["item_id"], candidate)

        if "diversity" in surface:
            self._check_diversity(feed, candidates, surface)
        elif "drop" in surface:
            features = _features_after_lookups(feed, candidates, surface["drop"], known or {})
            self._check_items(feed, features, surface)
        else:
            features = {item: candidate["features"] for item, candidate in candidates.items()}
            self._check_items(feed, features, surface)

    def _check_items(
        self,
        feed: Mapping[str, Any],
        features: Mapping[str, Sequence[float]],
        surface: Mapping[str, Any],
    ) -> None:
        """The feed holds the best of these items, by the models' scores and the feed's weights."""
        weights = feed["weights"]["values"]
        declared = surface["objectives"]
        assert list(weights) == declared + sorted(set(weights) - set(declared))

        kept = min(surface["top_k"] or len(features), len(features))
        assert len(feed["items"]) == kept
        assert feed.get("below_top_k", 0) == len(features) - kept
        assert [item["position"] for item in feed["items"]] == list(range(kept))

        scores = {
            objective: self._scores(objective, version, features)
            for objective, version in feed["models"].items()
        }
        for item in feed["items"]:
            for objective, score in item["scores"].items():
                assert abs(score - scores[objective][item["item_id"]]) < TOLERANCE
            total = 0.0
            for objective, weight in weights.items():
                total += weight * item["scores"][objective]
            assert item["final_score"] == total, "the record alone must give the final score"

        published = [(-item["final_score"], item["item_id"].encode()) for item in feed["items"]]
        assert published == sorted(published)

        sums = []
        for item_id in features:
            sums.append(sum(weight * scores[o][item_id] for o, weight in weights.items()))
        best = sorted(sums, reverse=True)[:kept]
        assert np.allclose([item["final_score"] for item in feed["items"]], best, atol=TOLERANCE)

    def _scores(
        self, objective: str, version: int, features: Mapping[str, Sequence[float]]
    ) -> dict[str, float]:
        if not features:
            return {}
        scores = self.model(objective, version).scores(list(features.values())).tolist()
        return dict(zip(features, scores, strict=True))

    def _check_diversity(
        self,
        feed: Mapping[str, Any],
        candidates: Mapping[str, Mapping[str, Any]],
        surface: Mapping[str, Any],
    ) -> None:
        """Every candidate is on the record with its scores. From these the whole feed follows, to
        the last bit.
        """
        items = feed["items"]
        removed = feed.get("removed", [])
        for key in ("diversity", "max_per_source"):
            assert feed[key] == surface[key]
        assert sorted(row["item_id"] for row in [*items, *removed]) == sorted(candidates)

        sums = {}
        for row in [*items, *removed]:
            sums[row["item_id"]] = self._check_scores(row, candidates[row["item_id"]], feed)
        sources = {item: candidate.get("source") for item, candidate in candidates.items()}
        kept, over_limit = _apply_diversity(sums, sources, surface)

        assert [_placed(item) for item in items] == kept
        assert [row["item_id"] for row in removed] == over_limit
        assert all(row["reason"] == "source-limit" for row in removed)

    def _check_scores(
        self, row: Mapping[str, Any], candidate: Mapping[str, Any], feed: Mapping[str, Any]
    ) -> float:
        """The scores of an item on the record, kept or removed, are its models'. Returns their
        weighted sum.
        """
        assert row.get("source") == candidate.get("source")
        total = 0.0
        for objective, weight in feed["weights"]["values"].items():
            score = row["scores"][objective]
            model = self.model(objective, feed["models"][objective])
            assert abs(score - model.score(candidate["features"])) < TOLERANCE
            total += weight * score
        return total


def _features_after_lookups(
    feed: Mapping[str, Any],
    candidates: Mapping[str, Mapping[str, Any]],
    sets: Mapping[str, str],
    known: Known,
) -> dict[str, Sequence[float]]:
    """The features of the items that are not dropped.

    The feed must say which were dropped, and which have default features. `sets` names each set
    that drops items, and whether it is of the user or of the surface; the first one gives the reason.
    """
    skipped = feed.get("skipped", [])

    dropped: dict[str, str] = {}
    for name, owner in sets.items():
        owner_id = feed["user_id"] if owner == "user" else feed["surface"]
        members = [] if name in skipped else known.get(f"{name}:{owner_id}", [])
        for item in candidates:
            if item in members:
                dropped.setdefault(item, name)
    expected = [{"item_id": item, "reason": dropped[item]} for item in sorted(dropped)]
    assert feed.get("removed", []) == expected

    features: dict[str, Sequence[float]] = {}
    defaulted = []
    for item, candidate in candidates.items():
        if item in dropped:
            continue
        values = candidate.get("features")
        if not values and "features" not in skipped:
            values = known.get(f"features:wide:{item}")
        if not values:
            values = _DEFAULT_FEATURES
            defaulted.append(item)
        features[item] = values
    assert feed.get("defaulted", []) == sorted(defaulted)
    return features


class _Placed(NamedTuple):
    """An item in the order of a feed, and what diversity takes off its final score."""

    item_id: str
    final_score: float
    adjustment: float


def _placed(item: Mapping[str, Any]) -> _Placed:
    adjustment = item.get("adjustments", {}).get("diversity", 0.0)
    return _Placed(item["item_id"], item["final_score"], adjustment)


def _apply_diversity(
    sums: Mapping[str, float], sources: Mapping[str, str | None], surface: Mapping[str, Any]
) -> tuple[list[_Placed], list[str]]:
    """The items in order, and the ids of those that are over the limit of their source."""
    placed: list[_Placed] = []
    for source in set(sources.values()):
        own = {item: total for item, total in sums.items() if sources[item] == source}
        if source is None:
            placed += [_Placed(item, total, 0.0) for item, total in own.items()]
        else:
            placed += _decayed(own, surface["diversity"])
    placed.sort(key=lambda item: (-item.final_score, item.item_id.encode()))

    kept: list[_Placed] = []
    over_limit: list[str] = []
    for item in placed:
        source = sources[item.item_id]
        before = sum(sources[other.item_id] == source for other in kept)
        if source is None or before < surface["max_per_source"]:
            kept.append(item)
        else:
            over_limit.append(item.item_id)
    return kept, sorted(over_limit)


def _decayed(sums: Mapping[str, float], diversity: Mapping[str, float]) -> list[_Placed]:
    """The items of one source. Each after the first keeps a smaller share of a positive sum."""
    placed = []
    power = 1.0
    in_order = sorted(sums, key=lambda item: (-sums[item], item.encode()))
    for place, item in enumerate(in_order):
        adjustment = 0.0
        if place:
            power *= diversity["decay"]
            share = diversity["floor"] + (1 - diversity["floor"]) * power
            if sums[item] > 0:
                adjustment = sums[item] * (share - 1)
        placed.append(_Placed(item, sums[item] + adjustment, adjustment))
    return placed
