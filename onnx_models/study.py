"""One training: its posts, their features and split, and models that are fitted to some of them.

Features and learners were chosen by `cross_validate` alone. It sees only the communities of the
training.
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
from onnx_models.metrics import by_community, spearman
from onnx_models.objectives import Objective
from onnx_models.posts import Post

FOLDS = 6
_BOUNDS = graph.bounds(
    low=np.array([feature.low for feature in FEATURES], np.float32),
    high=np.array([feature.high for feature in FEATURES], np.float32),
)


@dataclass(frozen=True)
class Study:
    """The posts of a training, and the seed of everything random. Same input, same bytes."""

    posts: Sequence[Post]
    seed: int

    @cached_property
    def rows(self) -> Rows:
        """The features: float32 `[posts, features]`."""
        return matrix(self.posts)

    @cached_property
    def split(self) -> Split:
        """Which posts training sees."""
        return split(self.posts, self.seed)

    @cached_property
    def communities(self) -> Names:
        """The community of each post: `[posts]`."""
        return np.array([post.community for post in self.posts])

    @cached_property
    def created(self) -> Numbers:
        """When each post was made, in seconds since the epoch: `[posts]`."""
        return np.array([post.created for post in self.posts], np.float64)

    def values(self, objective: Objective) -> Numbers:
        """What the objective wants, as it turned out for each post: `[posts]`."""
        return np.array([objective.value(post) for post in self.posts], np.float64)

    def fit(self, objective: Objective, mask: Mask) -> bytes:
        """Train and calibrate a model on the posts of a mask. Returns the bytes of the model."""
        rows = self.rows[mask]
        communities = self.communities[mask]
        values = self.values(objective)[mask]
        target = without_levels(rows, ranks_within(values, communities), communities)

        part = _BOUNDS + objective.learner(rows, target, self.seed)
        raw = graph.run(graph.build(part, graph.RAW, NAMES), rows)
        return graph.build(part + graph.calibration(raw), graph.OUTPUT, NAMES)

    def ship(self, objective: Objective) -> bytes:
        """The model that is shipped: trained without the first quarter of the communities, and
        without later posts.
        """
        return self.fit(objective, self.split.without(0))

    def scores_by_unseen_quarter(self, objective: Objective) -> Rows:
        """The score of each post, by a model that never saw its community: float32 `[posts]`.

        For each quarter of the communities, one model is trained on the others.
        """
        scores = np.empty(len(self.posts), np.float32)
        for quarter, mask in enumerate(self.split.in_quarter):
            model = self.fit(objective, self.split.without(quarter))
            scores[mask] = graph.run(model, self.rows[mask])
        return scores

    def cross_validate(self, objective: Objective) -> float:
        """Spearman's rho, as the mean over the communities of the training. Each community is
        scored by a model that never saw it.
        """
        train = np.flatnonzero(self.split.without(0))
        posts_of_community = [train[group] for group in groups(self.communities[train])]
        shuffled = np.random.default_rng(self.seed).permutation(len(posts_of_community))

        scores = np.zeros(len(self.posts), np.float32)
        for numbers in np.array_split(shuffled, FOLDS):
            fold = np.concatenate([posts_of_community[number] for number in numbers])
            mask = self.split.without(0)
            mask[fold] = False
            scores[fold] = graph.run(self.fit(objective, mask), self.rows[fold])

        values = self.values(objective)
        return by_community(spearman, scores[train], values[train], self.communities[train])
