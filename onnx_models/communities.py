"""What is relative to a community: targets, levels, and the split into posts that training sees and
posts that it never sees.

- The votes of a post say more about its community than about the post. So targets are ranks within
  a community.
- Each community has a level of its own: some get more comments, whatever is posted. It is taken out
  before training. What is left compares posts of one community with each other, and a feed of posts
  needs no more than that.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from onnx_models.posts import Post

Numbers = NDArray[np.float64]
Mask = NDArray[np.bool_]
Names = NDArray[np.str_]

QUARTERS = 4
LATER_FROM = datetime.fromisoformat("2013-05-01T00:00:00+00:00")


@dataclass(frozen=True)
class Split:
    """The communities in four random quarters, and which posts are late.

    `quarters` has the names of the communities. `in_quarter` has a mask `[posts]` for each quarter,
    `later` is a mask `[posts]`. The models that are shipped see neither the first quarter nor any
    later post.
    """

    quarters: tuple[tuple[str, ...], ...]
    in_quarter: tuple[Mask, ...]
    later: Mask

    def without(self, quarter: int) -> Mask:
        """The posts to train on if a quarter is held out: the earlier posts of all others."""
        return ~self.in_quarter[quarter] & ~self.later


def split(posts: Sequence[Post], seed: int) -> Split:
    """Split by whole communities and by time.

    Raises ValueError if there are fewer communities than quarters.
    """
    names = sorted({post.community for post in posts})
    if len(names) < QUARTERS:
        raise ValueError(f"surface: {len(names)} communities, expected at least {QUARTERS}")

    shuffled = np.random.default_rng(seed).permutation(len(names))
    quarters = list[tuple[str, ...]]()
    in_quarter = list[Mask]()
    for indices in np.array_split(shuffled, QUARTERS):
        quarter = tuple(sorted(names[index] for index in indices))
        quarters.append(quarter)
        in_quarter.append(np.array([post.community in quarter for post in posts]))

    later = np.array([post.created >= LATER_FROM.timestamp() for post in posts])
    return Split(tuple(quarters), tuple(in_quarter), later)


def groups(communities: Names) -> Iterator[NDArray[np.intp]]:
    """The indices of each community's posts. Communities are in the order of their names."""
    names, community = np.unique(communities, return_inverse=True)
    for number in range(len(names)):
        yield np.flatnonzero(community == number)


def ranks(values: Numbers) -> Numbers:
    """Ranks from 0 to 1, the lowest value first.

    Equal values share the mean of their ranks, as in Spearman's rho.
    """
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(count) - (count + 1) / 2
    share: Numbers = (mean_rank[inverse] + 0.5) / len(values)
    return share


def ranks_within(values: Numbers, communities: Names) -> Numbers:
    """Ranks from 0 to 1 within each community."""
    ranked = np.empty(len(values))
    for indices in groups(communities):
        ranked[indices] = ranks(values[indices])
    return ranked


def without_levels(rows: NDArray[np.float32], target: Numbers, communities: Names) -> Numbers:
    """The target without each community's own level: the fixed effect of the linear "within"
    estimator.

    Source: Wooldridge, Econometric Analysis of Cross Section and Panel Data, 2nd edition, 10.5.
    `rows` is `[posts, features]`, target and result are `[posts]`.
    """
    centred_rows = _centred(rows.astype(np.float64), communities)
    effects = np.linalg.lstsq(centred_rows, _centred(target, communities))[0]
    unexplained = target - rows @ effects
    levels: Numbers = unexplained - _centred(unexplained, communities)
    return target - levels


def _centred(values: Numbers, communities: Names) -> Numbers:
    """The values minus the mean of their community."""
    centred = values.copy()
    for indices in groups(communities):
        centred[indices] -= values[indices].mean(axis=0)
    return centred
