"""One training: its posts, their features and split, and models fitted to any part of them.

Features and learners were chosen by `cross_validate` alone, which sees the training communities
only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from onnx_models import graph
from onnx_models.communities import (
    Mask,
    Names,
    Numbers,
    Split,
    groups,
    ranks_within,
    split,
    without_levels,
)
from onnx_models.features import FEATURES, NAMES, matrix
from onnx_models.graph import Rows
from onnx_models.measure import by_community, spearman
from onnx_models.objectives import Objective
from onnx_models.posts import Post

FOLDS = 6
_BOUNDS = graph.bounds(
    np.array([feature.low for feature in FEATURES], np.float32),
    np.array([feature.high for feature in FEATURES], np.float32),
)


@dataclass(frozen=True)
class Study:
    """Posts, and the seed that everything random is drawn from."""

    posts: Sequence[Post]
    seed: int

    @cached_property
    def rows(self) -> Rows:
        """Features: float32 `[posts, features]`."""
        return matrix(self.posts)

    @cached_property
    def split(self) -> Split:
        """Which posts training sees."""
        return split(self.posts, self.seed)

    @cached_property
    def communities(self) -> Names:
        """The community of each post."""
        return np.array([post.community for post in self.posts])

    @cached_property
    def created(self) -> Numbers:
        """Seconds since the epoch of each post."""
        return np.array([post.created for post in self.posts], np.float64)

    def values(self, objective: Objective) -> Numbers:
        """What the objective wants, as it came out: `[posts]`."""
        return np.array([objective.value(post) for post in self.posts], np.float64)

    def fit(self, objective: Objective, mask: Mask) -> bytes:
        """Train and calibrate on the masked posts: the model's bytes."""
        communities, rows = self.communities[mask], self.rows[mask]
        target = without_levels(
            rows, ranks_within(self.values(objective)[mask], communities), communities
        )
        part = _BOUNDS + objective.learner(rows, target, self.seed)
        raw = graph.run(graph.build(part, graph.RAW, NAMES), rows)
        return graph.build(part + graph.calibration(raw), graph.OUTPUT, NAMES)

    def ship(self, objective: Objective) -> bytes:
        """The model that is shipped: trained without the first quarter of the communities and
        without later posts.
        """
        return self.fit(objective, self.split.without(0))

    def scores_in_turn(self, objective: Objective) -> Rows:
        """Each post's score by a model that never saw its community: one model for each quarter
        held out.
        """
        scores = np.empty(len(self.posts), np.float32)
        for quarter, mask in enumerate(self.split.in_quarter):
            scores[mask] = graph.run(
                self.fit(objective, self.split.without(quarter)), self.rows[mask]
            )
        return scores

    def cross_validate(self, objective: Objective) -> float:
        """Mean Spearman by community over the training posts, each community scored by a model that
        never saw it.
        """
        train = np.flatnonzero(self.split.without(0))
        places = [train[group] for group in groups(self.communities[train])]
        order = np.random.default_rng(self.seed).permutation(len(places))
        folds = [
            np.concatenate([places[number] for number in numbers])
            for numbers in np.array_split(order, FOLDS)
        ]
        scores, values = np.zeros(len(self.posts), np.float32), self.values(objective)
        for fold in folds:
            mask = self.split.without(0)
            mask[fold] = False
            scores[fold] = graph.run(self.fit(objective, mask), self.rows[fold])
        return by_community(spearman, scores[train], values[train], self.communities[train])
