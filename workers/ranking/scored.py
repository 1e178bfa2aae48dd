"""Candidates with the scores that the models gave them: what ranking begins with."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]
"""`[candidates, objectives]`, columns in the surface's order of objectives."""

Sources = tuple[str | None, ...]


class Scored(NamedTuple):
    """Candidates, their sources and their scores, one beside the other."""

    item_ids: tuple[str, ...]
    sources: Sources
    scores: Scores
