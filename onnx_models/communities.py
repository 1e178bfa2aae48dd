"""Everything relative to a community: targets, levels, and which communities and posts training
never sees.

A post's votes say more of its community than of the post, so targets are ranks within a community.
A community's own level (some draw more comments whatever is posted) is taken out before training:
what is left compares posts of one community with each other, which is all that a feed of posts asks
for.
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
    """`quarters` of the communities, drawn by seed, and masks over posts: `in_quarter[i]`, and
    `later` posts.

    The models that are shipped see neither the first quarter nor any later post.
    """

    quarters: tuple[tuple[str, ...], ...]
    in_quarter: tuple[Mask, ...]
    later: Mask

    def without(self, quarter: int) -> Mask:
        """The posts to train on where a quarter is held out: the other communities' earlier posts."""
        return ~self.in_quarter[quarter] & ~self.later


def split(posts: Sequence[Post], seed: int) -> Split:
    """Split by whole communities and by time. Raises ValueError where there are fewer communities
    than quarters.
    """
    names = sorted({post.community for post in posts})
    if len(names) < QUARTERS:
        raise ValueError(f"surface: {len(names)} communities, expected at least {QUARTERS}")
    drawn = np.array_split(np.random.default_rng(seed).permutation(len(names)), QUARTERS)
    quarters = tuple(tuple(sorted(names[place] for place in places)) for places in drawn)
    in_quarter = tuple(
        np.array([post.community in quarter for post in posts]) for quarter in quarters
    )
    return Split(
        quarters, in_quarter, np.array([post.created >= LATER_FROM.timestamp() for post in posts])
    )


def groups(communities: Names) -> Iterator[NDArray[np.intp]]:
    """The places of each community's posts, communities in order of name."""
    names, community = np.unique(communities, return_inverse=True)
    for number in range(len(names)):
        yield np.flatnonzero(community == number)


def ranks(values: Numbers) -> Numbers:
    """Ranks from 0 to 1, the lowest value first; equal values share the mean of their ranks, as in
    Spearman's rho.
    """
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(count) - (count + 1) / 2
    share: Numbers = (mean_rank[place] + 0.5) / len(values)
    return share


def ranks_within(values: Numbers, communities: Names) -> Numbers:
    """Ranks from 0 to 1 within each community."""
    ranked = np.empty(len(values))
    for places in groups(communities):
        ranked[places] = ranks(values[places])
    return ranked


def without_levels(rows: NDArray[np.float32], target: Numbers, communities: Names) -> Numbers:
    """The target less each community's own level: the fixed effect of the linear "within"
    estimator.

    Source: Wooldridge, Econometric Analysis of Cross Section and Panel Data, 2nd edition, 10.5.
    `rows` is `[posts, features]`, target and result `[posts]`.
    """
    effects = np.linalg.lstsq(
        _centred(rows.astype(np.float64), communities), _centred(target, communities)
    )[0]
    unexplained = target - rows @ effects
    levels: Numbers = unexplained - _centred(unexplained, communities)
    return target - levels


def _centred(values: Numbers, communities: Names) -> Numbers:
    centred = values.copy()
    for places in groups(communities):
        centred[places] -= values[places].mean(axis=0)
    return centred
