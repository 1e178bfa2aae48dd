"""What the feeds must be, written apart from the workers: plain Python, numpy, and the models' weights by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

SURFACES: Mapping[str, Mapping[str, Any]] = {
    "home": {"objectives": ["quality", "engagement"], "top_k": 0},
    "search": {"objectives": ["engagement", "quality"], "top_k": 5},
}
TOLERANCE = 2e-6


class Perceptron:
    """Relu between, a sigmoid at the end; read from the ONNX file, computed in float64 by numpy."""

    def __init__(self, path: Path) -> None:
        constants = {c.name: numpy_helper.to_array(c).astype(np.float64) for c in onnx.load(path).graph.initializer}
        self.layers = [(constants[f"w{i}"], constants[f"b{i}"]) for i in range(len(constants) // 2)]

    def score(self, features: Sequence[float]) -> float:
        row: NDArray[np.float64] = np.array(features, np.float32).astype(np.float64)
        row[0] = np.clip(row[0], -1.0, 1.0)
        for place, (weights, bias) in enumerate(self.layers):
            row = row @ weights + bias
            if place < len(self.layers) - 1:
                row = np.maximum(row, 0.0)
        return float(1.0 / (1.0 + np.exp(-row[0])))


class Oracle:
    """Checks feeds against the events that were sent."""

    def __init__(self, models: Path) -> None:
        self.models = {name: Perceptron(models / name / "1" / "model.onnx") for name in ("quality", "engagement")}

    def check(self, feed: Mapping[str, Any], events: Sequence[Mapping[str, Any]], **expected: Any) -> None:
        """Fail unless `feed` is the feed of `events`, whatever their order; `expected` names further fields."""
        first, surface = events[0], SURFACES[events[0]["surface"]]
        for key in ("request_id", "surface", "user_id", "requested_at"):
            assert feed[key] == first[key], key
        for key, value in expected.items():
            assert feed[key] == value, (key, feed[key], value)
        items: dict[str, Sequence[float]] = {}
        for event in events:
            for candidate in event["candidates"]:
                items.setdefault(candidate["item_id"], candidate["features"])
        assert feed["models"] == {"quality": 1, "engagement": 1}
        self._check_items(feed, items, surface)

    def _check_items(
        self, feed: Mapping[str, Any], items: Mapping[str, Sequence[float]], surface: Mapping[str, Any]
    ) -> None:
        weights = feed["weights"]["values"]
        assert list(weights) == surface["objectives"]
        whole = {i: sum(w * self.models[o].score(f) for o, w in weights.items()) for i, f in items.items()}
        kept = len(items) if not surface["top_k"] else min(surface["top_k"], len(items))
        assert len(feed["items"]) == kept
        assert feed.get("below_top_k", 0) == len(items) - kept
        assert [item["position"] for item in feed["items"]] == list(range(kept))
        for item in feed["items"]:
            for objective, score in item["scores"].items():
                assert abs(score - self.models[objective].score(items[item["item_id"]])) < TOLERANCE
            total = 0.0
            for objective, weight in weights.items():
                total += weight * item["scores"][objective]
            assert item["final_score"] == total, "the record alone must give the final score"
        published = [(-item["final_score"], item["item_id"].encode()) for item in feed["items"]]
        assert published == sorted(published)
        best = sorted(whole.values(), reverse=True)[:kept]
        assert np.allclose([item["final_score"] for item in feed["items"]], best, atol=TOLERANCE)
