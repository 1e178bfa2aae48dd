"""Surfaces: what is ranked, by which objectives, until when, and which items are dropped."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from workers.ranking.diversify import Diversity
from workers.ranking.features import FeatureSet
from workers.ranking.outcome_rules import OutcomeRules
from workers.ranking.removal import RemovalReason
from workers.ranking.weights import WeightRules

FEATURES = "features"
"""The name of the look-up of features, beside the names of drop sets."""

_RESERVED_NAMES = frozenset(
    {
        "weights",
        "experiment",
        "models",
        "plan",
        "history",
        "workers",
        "outcomes",
        FEATURES,
        *RemovalReason,
    }
)

_LEAST: Mapping[str, int] = {
    "deadline_ms": 1,
    "horizon_ms": 1,
    "max_candidates": 1,
    "top_k": 0,
    "max_per_source": 0,
}


class SetOwner(StrEnum):
    """Whether each user has a set of that name, or the surface has one."""

    USER = "user"
    SURFACE = "surface"


@dataclass(frozen=True, slots=True)
class DropSet:
    """Items that a set of this name holds are dropped, with the name as the reason.

    The name begins a key in Redis, and it is a reason among others on feeds. So it is none of
    those. Raises ValueError.
    """

    name: str
    owner: SetOwner

    def __post_init__(self) -> None:
        if not self.name or ":" in self.name:
            raise ValueError(
                f"drop.{self.name}: expected a name without ':', "
                "which separates the parts of keys in Redis"
            )
        if self.name in _RESERVED_NAMES:
            raise ValueError(
                f"drop.{self.name}: expected another name than {', '.join(sorted(_RESERVED_NAMES))}"
            )

    def owner_id(self, surface: str, user_id: str) -> str:
        """The owner of the set for a request of this surface and user. It follows the name in the
        key.
        """
        return user_id if self.owner is SetOwner.USER else surface


@dataclass(frozen=True)
class Surface:
    """One surface. Raises ValueError naming the key.

    - `objectives` are in the order in which final scores are summed.
    - `deadline_ms` is counted from a request's first event.
    - `horizon_ms` is how long after `requested_at` an unknown request may still open.
    - `top_k`: publish the N best candidates. 0: all.
    - `diversity` and `max_per_source` (0: no limit) are its rules on sources.
    - `drop`: items that one of these sets holds are dropped.
    - `lookup_features`: a candidate may come without features, which are then looked up.
    - `outcomes`: what counts as an outcome. None: outcomes are not counted.
    """

    name: str
    feature_set: FeatureSet
    objectives: tuple[str, ...]
    weight_rules: WeightRules
    deadline_ms: int = 2000
    horizon_ms: int = 30_000
    max_candidates: int = 1000
    top_k: int = 0
    diversity: Diversity | None = None
    max_per_source: int = 0
    drop: tuple[DropSet, ...] = ()
    lookup_features: bool = False
    outcomes: OutcomeRules | None = None

    def __post_init__(self) -> None:
        if not self.name or ":" in self.name:
            raise ValueError(
                f"name: got {self.name!r}, expected one without ':', "
                "which separates the parts of keys in Redis"
            )
        if not self.objectives or len(set(self.objectives)) != len(self.objectives):
            raise ValueError(
                f"objectives: got {list(self.objectives)}, expected at least one, each once"
            )
        if tuple(self.weight_rules.defaults) != self.objectives:
            raise ValueError(
                f"weights: got {list(self.weight_rules.defaults)}, expected {list(self.objectives)}"
            )

        for key, least in _LEAST.items():
            value = getattr(self, key)
            if value < least:
                raise ValueError(f"{key}: got {value}, expected at least {least}")

        names = [drop_set.name for drop_set in self.drop]
        if len(set(names)) != len(names):
            raise ValueError(f"drop: got {names}, expected each name once")

        if self.lookup_features and ":" in self.feature_set.name:
            raise ValueError(
                f"feature_set: got {self.feature_set.name!r}, "
                "expected one without ':' to be looked up by"
            )

    @property
    def has_source_rules(self) -> bool:
        """Whether it has a rule on sources. Its feeds then name the sources of their items."""
        return self.diversity is not None or self.max_per_source > 0

    @property
    def has_lookups(self) -> bool:
        """Whether its requests may have something to look up."""
        return bool(self.drop) or self.lookup_features

    @property
    def absent_row(self) -> bytes | None:
        """The row of a candidate that comes without features. None if it may not come so."""
        return self.feature_set.absent_row if self.lookup_features else None


Surfaces = Mapping[str, Surface]
"""By name."""


def feature_sets_by_objective(surfaces: Surfaces) -> dict[str, list[FeatureSet]]:
    """The feature sets that each objective's model is given, over all surfaces that name it."""
    by_name: dict[str, dict[str, FeatureSet]] = {}
    for surface in surfaces.values():
        feature_set = surface.feature_set
        for objective in surface.objectives:
            by_name.setdefault(objective, {})[feature_set.name] = feature_set
    return {objective: list(sets.values()) for objective, sets in by_name.items()}


def check_drop_sets(surfaces: Surfaces) -> None:
    """Check that no set of users and set of a surface have the same name: they could share a key in
    Redis. Raises ValueError naming the key.
    """
    owners: dict[str, SetOwner] = {}
    for name, surface in surfaces.items():
        for drop_set in surface.drop:
            owner = owners.setdefault(drop_set.name, drop_set.owner)
            if drop_set.owner is not owner:
                raise ValueError(
                    f"surfaces.{name}.drop.{drop_set.name}: got {drop_set.owner.value!r}, "
                    f"expected {owner.value!r} as on another surface"
                )
