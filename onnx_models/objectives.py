"""The objectives: the value that each predicts for a post, and how its model is trained.

Their models are trained separately, on the same posts and features. So each can be replaced alone.
To add an objective, add it to OBJECTIVES; README.md has the other steps.
"""

from collections.abc import Callable
from dataclasses import dataclass

from onnx_models import learners
from onnx_models.learners import Learner
from onnx_models.posts import Post


@dataclass(frozen=True)
class Objective:
    """One objective.

    `value` is what is wanted of a post. The model learns the rank of this value within the post's
    community. `target` and `family` describe both in the manifest.
    """

    name: str
    target: str
    family: str
    value: Callable[[Post], float]
    learner: Learner


QUALITY = Objective(
    name="quality",
    target="rank within the community (0 to 1) of the share of up votes, ups / (ups + downs)",
    family="gradient-boosted trees",
    value=lambda post: post.ups / max(1, post.ups + post.downs),
    learner=learners.boosted_trees,
)
ENGAGEMENT = Objective(
    name="engagement",
    target="rank within the community (0 to 1) of the number of comments",
    family="multilayer perceptron",
    value=lambda post: float(post.comments),
    learner=learners.mean_of_mlps,
)
OBJECTIVES = (QUALITY, ENGAGEMENT)
