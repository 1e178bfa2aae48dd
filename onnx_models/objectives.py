"""The two objectives: what each wants of a post, and which learner it has.

Trained apart, on the same posts and features, so that either can be replaced without the other.
"""

from collections.abc import Callable
from dataclasses import dataclass

from onnx_models import learners
from onnx_models.learners import Learner
from onnx_models.posts import Post


@dataclass(frozen=True)
class Objective:
    """`value` is what is wanted of a post; its rank within its community is the target."""

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
