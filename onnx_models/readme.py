"""The tables of onnx_models/README.md. They are made from the feature set and the manifests, never
written by hand.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx_models.features import FEATURES
from onnx_models.manifest import VERSION

Manifests = Mapping[str, Mapping[str, Any]]

SPLITS = {
    "unseen_communities": "each community by a model that never saw it",
    "held_out_communities": "the shipped model, held-out communities",
    "unseen_time": "the shipped model, later posts",
}
MEASURES = {"spearman": "Spearman", "ndcg@10": "NDCG@10"}
CONFLICT_MEASURES = {
    "spearman": "Spearman",
    "opposed_pairs": "pairs put the other way round",
    "shared_in_top_tenth": "of the best tenth by one, share in the best tenth by the other",
}


def refresh(folder: Path) -> None:
    """Write the tables into `folder`/README.md, between their markers."""
    path = folder / "README.md"
    path.write_text(with_tables(path.read_text(encoding="utf-8"), folder), encoding="utf-8")


def with_tables(text: str, folder: Path) -> str:
    """The README's text, with the tables of the current features and manifests."""
    manifests: dict[str, Mapping[str, Any]] = {}
    for path in sorted(folder.glob(f"*/{VERSION}/manifest.json")):
        manifests[path.parent.parent.name] = json.loads(path.read_bytes())

    tables = {
        "features": _features_table(),
        "metrics": _metrics_table(manifests),
        "conflict": _conflict_table(manifests),
    }
    for name, lines in tables.items():
        table = "\n".join(lines)
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)",
            rf"\g<1>{table}\n\g<2>",
            text,
            flags=re.DOTALL,
        )
    return text


def _features_table() -> list[str]:
    lines = ["| | name | meaning | bounds | default |", "|--:|---|---|---|--:|"]
    for index, feature in enumerate(FEATURES):
        bounds = f"{feature.low:g} to {feature.high:g}"
        lines.append(
            f"| {index} | `{feature.name}` | {feature.meaning} | {bounds} | {feature.default:g} |"
        )
    return lines


def _metrics_table(manifests: Manifests) -> list[str]:
    columns = list[str]()
    for measure in MEASURES.values():
        columns += [measure, f"{measure}, shuffled", f"{measure}, newest first"]
    lines = [
        "| objective | measured on | " + " | ".join(columns) + " |",
        "|---|---|" + "--:|" * len(columns),
    ]
    for objective, manifest in manifests.items():
        for split, split_text in SPLITS.items():
            figures = manifest["metrics"][split]
            posts = f"{figures['communities']} communities, {figures['posts']:,} posts"
            baselines = figures["baselines"]
            numbers = list[str]()
            for measure in MEASURES:
                for order in (figures, baselines["shuffled"], baselines["newest_first"]):
                    numbers.append(f"{order[measure]:.3f}")
            numbers[0] = f"**{numbers[0]}**"
            lines.append(f"| {objective} | {split_text} ({posts}) | {' | '.join(numbers)} |")
    return lines


def _conflict_table(manifests: Manifests) -> list[str]:
    lines = ["| quality against engagement | as it came out | as scored |", "|---|--:|--:|"]
    # Every manifest has the same figures here.
    conflict = next(iter(manifests.values()))["metrics"]["conflict"]
    for measure, text in CONFLICT_MEASURES.items():
        outcomes = conflict["outcomes"][measure]
        scores = conflict["scores"][measure]
        lines.append(f"| {text} | {outcomes:.3f} | {scores:.3f} |")
    return lines
