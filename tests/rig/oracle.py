"""What the feeds must be, written apart from the workers: plain Python, numpy, and the models'
weights by hand.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

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
Known = Mapping[str, Sequence[Any]]
"""What look-ups find: by the key in Redis, without its prefix, the items of a set or the features
of an item.
"""
TOLERANCE = 2e-6


class Perceptron:
    """Relu between, a sigmoid at the end; read from the ONNX file, computed in float64 by numpy."""

    def __init__(self, path: Path) -> None:
        constants = {
            c.name: numpy_helper.to_array(c).astype(np.float64)
            for c in onnx.load(path).graph.initializer
        }
        self.layers = [(constants[f"w{i}"], constants[f"b{i}"]) for i in range(len(constants) // 2)]

    def score(self, features: Sequence[float]) -> float:
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
    """Checks feeds against the events that were sent."""

    def __init__(self, models: Path) -> None:
        self._folder = models
        self._opened: dict[tuple[str, int], Perceptron] = {}

    def model(self, objective: str, version: int) -> "Perceptron":
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
        """Fail unless `feed` is the feed of `events`, whatever their order; `expected` names
        further fields.

        Where its surface looks up, the feed says what it was ranked without, and `known` holds all
        the rest.
        """
        first, surface = events[0], SURFACES[events[0]["surface"]]
        for key in ("request_id", "surface", "user_id", "requested_at"):
            assert feed[key] == first[key], key
        for key, value in expected.items():
            assert feed[key] == value, (key, feed[key], value)
        candidates: dict[str, Mapping[str, Any]] = {}
        for event in events:
            for candidate in event["candidates"]:
                candidates.setdefault(candidate["item_id"], candidate)
        assert sorted(feed["models"]) == sorted(feed["weights"]["values"])
        if "diversity" in surface:
            self._check_ruled(feed, candidates, surface)
        elif "drop" in surface:
            self._check_items(
                feed, _looked_up(feed, candidates, surface["drop"], known or {}), surface
            )
        else:
            self._check_items(
                feed, {i: candidate["features"] for i, candidate in candidates.items()}, surface
            )

    def _check_items(
        self,
        feed: Mapping[str, Any],
        items: Mapping[str, Sequence[float]],
        surface: Mapping[str, Any],
    ) -> None:
        weights = feed["weights"]["values"]
        declared = surface["objectives"]
        assert list(weights) == declared + sorted(set(weights) - set(declared))
        scores = {
            objective: self._scores(objective, version, items)
            for objective, version in feed["models"].items()
        }
        whole = {i: sum(w * scores[o][i] for o, w in weights.items()) for i in items}
        kept = len(items) if not surface["top_k"] else min(surface["top_k"], len(items))
        assert len(feed["items"]) == kept
        assert feed.get("below_top_k", 0) == len(items) - kept
        assert [item["position"] for item in feed["items"]] == list(range(kept))
        for item in feed["items"]:
            for objective, score in item["scores"].items():
                assert abs(score - scores[objective][item["item_id"]]) < TOLERANCE
            total = 0.0
            for objective, weight in weights.items():
                total += weight * item["scores"][objective]
            assert item["final_score"] == total, "the record alone must give the final score"
        published = [(-item["final_score"], item["item_id"].encode()) for item in feed["items"]]
        assert published == sorted(published)
        best = sorted(whole.values(), reverse=True)[:kept]
        assert np.allclose([item["final_score"] for item in feed["items"]], best, atol=TOLERANCE)

    def _scores(
        self, objective: str, version: int, items: Mapping[str, Sequence[float]]
    ) -> dict[str, float]:
        scores = (
            self.model(objective, version).scores(list(items.values())).tolist() if items else []
        )
        return dict(zip(items, scores, strict=True))

    def _check_ruled(
        self,
        feed: Mapping[str, Any],
        candidates: Mapping[str, Mapping[str, Any]],
        surface: Mapping[str, Any],
    ) -> None:
        """Every candidate is on the record with its scores: from these the whole feed follows, to
        the last bit.
        """
        items, removed = feed["items"], feed.get("removed", [])
        assert all(feed[key] == surface[key] for key in ("diversity", "max_per_source"))
        assert sorted(one["item_id"] for one in [*items, *removed]) == sorted(candidates)
        sums = {
            one["item_id"]: self._sum(one, candidates[one["item_id"]], feed)
            for one in [*items, *removed]
        }
        expected, over = _ruled(
            sums, {i: candidate.get("source") for i, candidate in candidates.items()}, surface
        )
        told = [
            (i["item_id"], i["final_score"], i.get("adjustments", {}).get("diversity", 0.0))
            for i in items
        ]
        assert told == expected
        assert [one["item_id"] for one in removed] == over
        assert all(one["reason"] == "source-limit" for one in removed)

    def _sum(
        self, one: Mapping[str, Any], candidate: Mapping[str, Any], feed: Mapping[str, Any]
    ) -> float:
        """The weighted sum of an item on the record, kept or removed, whose scores are its models'."""
        assert one.get("source") == candidate.get("source")
        total = 0.0
        for objective, weight in feed["weights"]["values"].items():
            score = one["scores"][objective]
            model = self.model(objective, feed["models"][objective])
            assert abs(score - model.score(candidate["features"])) < TOLERANCE
            total += weight * score
        return total


def _looked_up(
    feed: Mapping[str, Any],
    candidates: Mapping[str, Mapping[str, Any]],
    sets: Mapping[str, str],
    known: Known,
) -> dict[str, Sequence[float]]:
    """The features of the items that stay; the feed must say what went, and whose features are the
    defaults.
    """
    skipped, gone = feed.get("skipped", []), dict[str, str]()
    for name, whose in sets.items():
        owner = feed["user_id"] if whose == "user" else feed["surface"]
        held = [] if name in skipped else known.get(f"{name}:{owner}", [])
        gone = {item: name for item in candidates if item in held} | gone
    assert feed.get("removed", []) == [
        {"item_id": item, "reason": gone[item]} for item in sorted(gone)
    ]
    features = {
        item: candidate.get("features")
        for item, candidate in candidates.items()
        if item not in gone
    }
    lacking = [item for item, given in features.items() if not given]
    found = {
        i: known.get(f"features:wide:{i}") if "features" not in skipped else None for i in lacking
    }
    assert feed.get("defaulted", []) == sorted(item for item, values in found.items() if not values)
    return {item: given or found[item] or [0.0] * 32 for item, given in features.items()}


def _ruled(
    sums: Mapping[str, float], sources: Mapping[str, str | None], surface: Mapping[str, Any]
) -> tuple[list[tuple[str, float, float]], list[str]]:
    """The items in order, each with its final score and what diversity takes off; and who is over
    the limit.
    """
    placed = [
        one
        for source in {*sources.values()}
        for one in _thinned(source, sums, sources, surface["diversity"])
    ]
    placed.sort(key=lambda one: (-one[1], one[0].encode()))
    staying, over = list[tuple[str, float, float]](), list[str]()
    for one in placed:
        source = sources[one[0]]
        before = sum(sources[item] == source for item, _, _ in staying)
        if source is None or before < surface["max_per_source"]:
            staying.append(one)
        else:
            over.append(one[0])
    return staying, sorted(over)


def _thinned(
    source: str | None,
    sums: Mapping[str, float],
    sources: Mapping[str, str | None],
    diversity: Mapping[str, float],
) -> Iterator[tuple[str, float, float]]:
    own = sorted(
        (item for item in sums if sources[item] == source),
        key=lambda item: (-sums[item], item.encode()),
    )
    kept = 1.0
    for place, item in enumerate(own):
        kept *= diversity["decay"] if place else 1.0
        share = diversity["floor"] + (1 - diversity["floor"]) * kept
        off = sums[item] * (share - 1) if source is not None and place and sums[item] > 0 else 0.0
        yield item, sums[item] + off, off
