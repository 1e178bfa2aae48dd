"""The tables of onnx_models/README.md: rendered from the feature set and the manifests, never
written by hand.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx_models.features import FEATURES

Manifests = Mapping[str, Mapping[str, Any]]

SPLITS = {
    "unseen_communities": "each community by a model that never saw it",
    "held_out_communities": "the shipped model, held-out communities",
    "unseen_time": "the shipped model, later posts",
}
MEASURES = {
    "spearman": "Spearman",
    "opposed_pairs": "pairs put the other way round",
    "shared_in_top_tenth": "of the best tenth by one, share in the best tenth by the other",
}


def refresh(folder: Path) -> None:
    """Write the tables into `folder`/README.md, between their markers."""
    readme = folder / "README.md"
    readme.write_text(rendered(readme.read_text(encoding="utf-8"), folder), encoding="utf-8")


def rendered(text: str, folder: Path) -> str:
    """The README's text with its tables as features and manifests have them now."""
    manifests = {
        path.parent.parent.name: json.loads(path.read_bytes())
        for path in folder.glob("*/1/manifest.json")
    }
    for name, table in (
        ("features", _features()),
        ("metrics", _metrics(manifests)),
        ("conflict", _conflict(manifests)),
    ):
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)",
            rf"\g<1>{table}\n\g<2>",
            text,
            flags=re.DOTALL,
        )
    return text


def _features() -> str:
    rows = [
        f"| {place} | `{each.name}` | {each.meaning} | {each.low:g} to {each.high:g} | {each.default:g} |"
        for place, each in enumerate(FEATURES)
    ]
    return "\n".join(["| | name | meaning | bounds | default |", "|--:|---|---|---|--:|", *rows])


def _metrics(manifests: Manifests) -> str:
    columns = [
        f"{measure}{order}"
        for measure in ("Spearman", "NDCG@10")
        for order in ("", ", shuffled", ", newest first")
    ]
    head = [
        "| objective | measured on | " + " | ".join(columns) + " |",
        "|---|---|" + "--:|" * len(columns),
    ]
    rows = [_row(name, split, manifests[name]) for name in sorted(manifests) for split in SPLITS]
    return "\n".join(head + rows)


def _row(name: str, split: str, manifest: Mapping[str, Any]) -> str:
    figures = manifest["metrics"][split]
    orders = (figures, figures["baselines"]["shuffled"], figures["baselines"]["newest_first"])
    numbers = [f"{order[measure]:.3f}" for measure in ("spearman", "ndcg@10") for order in orders]
    place = f"{SPLITS[split]} ({figures['communities']} communities, {figures['posts']:,} posts)"
    return f"| {name} | {place} | **{numbers[0]}** | " + " | ".join(numbers[1:]) + " |"


def _conflict(manifests: Manifests) -> str:
    conflict = next(iter(manifests.values()))["metrics"]["conflict"]
    rows = [
        f"| {label} | {conflict['outcomes'][key]:.3f} | {conflict['scores'][key]:.3f} |"
        for key, label in MEASURES.items()
    ]
    return "\n".join(
        ["| quality against engagement | as it came out | as scored |", "|---|--:|--:|", *rows]
    )
