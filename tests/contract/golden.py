"""The golden examples of schemas/golden, as any language would read them."""

import json
from pathlib import Path
from typing import Any

from workers.codec.formats import Headers
from workers.ranking.features import FeatureSet
from workers.ranking.surface import Surface, Surfaces
from workers.ranking.weights import WeightRules

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
GOLDEN = SCHEMAS / "golden"
INDEX: dict[str, Any] = json.loads((GOLDEN / "index.json").read_text(encoding="utf-8"))

Entry = dict[str, Any]


def value_of(entry: Entry) -> bytes | None:
    return None if entry["file"] is None else (GOLDEN / entry["file"]).read_bytes()


def key_of(entry: Entry) -> bytes | None:
    return None if entry["key"] is None else entry["key"].encode()


def headers_of(entry: Entry) -> Headers:
    return [(name, text.encode()) for name, text in entry["headers"].items()]


def _surface(name: str, entry: Entry) -> Surface:
    features = entry["feature_set"]
    feature_set = FeatureSet(features["name"], tuple(features["names"]), features["defaults"])
    objectives = tuple(entry["objectives"])
    rules = WeightRules(dict.fromkeys(objectives, 0.5), {})
    limits = {key: entry[key] for key in ("deadline_ms", "horizon_ms", "max_candidates")}
    return Surface(
        name,
        feature_set,
        objectives,
        rules,
        lookup_features=entry.get("lookup_features", False),
        **limits,
    )


SURFACES: Surfaces = {name: _surface(name, entry) for name, entry in INDEX["surfaces"].items()}
