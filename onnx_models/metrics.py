"""The figures of a manifest: all on posts that the model in question never saw, beside orders that
need no model.
"""

from collections.abc import Mapping

import numpy as np

from onnx_models import graph
from onnx_models.communities import Mask
from onnx_models.graph import Rows
from onnx_models.measure import baselines, conflict, quality_of_order
from onnx_models.objectives import ENGAGEMENT, QUALITY, Objective
from onnx_models.study import Study


def metrics(
    study: Study, objective: Objective, models: Mapping[str, bytes]
) -> Mapping[str, object]:
    """`models` holds the shipped model of every objective."""
    scores = {name: graph.run(model, study.rows) for name, model in models.items()}
    shipped, held_out = scores[objective.name], study.split.in_quarter[0]
    everywhere = np.ones_like(held_out)
    return {
        "unseen_communities": {
            "how": "each quarter of the communities by a model trained without it; the word classes of the features "
            "were chosen on all but the held-out quarter",
            **_figures(study, objective, study.scores_in_turn(objective), everywhere),
        },
        "held_out_communities": {
            "how": "this model, on the quarter of the communities that it was trained without",
            **_figures(study, objective, shipped, held_out),
        },
        "unseen_time": {
            "how": "this model, on later posts of the communities that it was trained on",
            **_figures(study, objective, shipped, study.split.later & ~held_out),
        },
        "conflict": _conflict(study, scores, held_out),
    }


def _figures(study: Study, objective: Objective, scores: Rows, mask: Mask) -> Mapping[str, object]:
    communities, values = study.communities[mask], study.values(objective)[mask]
    return {
        "communities": len(set(communities)),
        "posts": int(mask.sum()),
        **quality_of_order(scores[mask], values, communities),
        "baselines": baselines(study.created[mask], values, communities, study.seed),
    }


def _conflict(study: Study, scores: Mapping[str, Rows], mask: Mask) -> Mapping[str, object]:
    """How far the objectives pull apart on the held-out communities, as it came out and as the
    models score it.
    """
    communities = study.communities[mask]
    outcomes = (study.values(QUALITY)[mask], study.values(ENGAGEMENT)[mask])
    scored = (scores[QUALITY.name][mask], scores[ENGAGEMENT.name][mask])
    return {"outcomes": conflict(*outcomes, communities), "scores": conflict(*scored, communities)}
