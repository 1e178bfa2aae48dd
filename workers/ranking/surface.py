"""Surfaces: what is ranked where, by which objectives, until when, and which items are dropped."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from workers.ranking.diversify import Diversity
from workers.ranking.features import FeatureSet
from workers.ranking.removal import RemovalReason
from workers.ranking.weights import WeightRules

FEATURES = "features"
"""What the look-up of features is called where drop sets are called by their names."""
_RESERVED = frozenset(
    {"weights", "experiment", "models", "history", "workers", FEATURES, *RemovalReason}
)


class SetOwner(StrEnum):
    """Whether each user has a set of that name, or the whole surface has one."""

    USER = "user"
    SURFACE = "surface"


@dataclass(frozen=True, slots=True)
class DropSet:
    """Items that a set of this name holds are dropped, with the name as the reason. Raises
    ValueError.

    The name begins a key in Redis and stands beside other reasons on feeds, so it is none of those.
    """

    name: str
    owner: SetOwner

    def __post_init__(self) -> None:
        if not self.name or ":" in self.name:
            raise ValueError(
                f"drop.{self.name}: expected a name without ':', which parts the keys in Redis"
            )
        if self.name in _RESERVED:
            raise ValueError(
                f"drop.{self.name}: expected another name than {', '.join(sorted(_RESERVED))}"
            )

    def owner_id(self, surface: str, user_id: str) -> str:
        """SetOwner set it is for a request of this surface and user: what follows the name in the key."""
        return user_id if self.owner is SetOwner.USER else surface


@dataclass(frozen=True)
class Surface:
    """One surface; its objectives stand in the order in which final scores are summed.

    `deadline_ms` counts from a request's first event; `horizon_ms` is how long after `requested_at`
    an unknown request may still open; `top_k` 0 publishes every candidate. `diversity` and
    `max_per_source` (0: no limit) are its rules on sources. Items that one of the sets `drop` holds
    are dropped; with `lookup_features` a candidate may come without features, which are then looked
    up. Raises ValueError naming the key.
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

    def __post_init__(self) -> None:
        if not self.name or ":" in self.name:
            raise ValueError(
                f"name: got {self.name!r}, expected one without ':', which parts the keys in Redis"
            )
        if not self.objectives or len(set(self.objectives)) != len(self.objectives):
            raise ValueError(
                f"objectives: got {list(self.objectives)}, expected at least one, each once"
            )
        if tuple(self.weight_rules.defaults) != self.objectives:
            raise ValueError(
                f"weights: got {list(self.weight_rules.defaults)}, expected {list(self.objectives)}"
            )
        least = {
            "deadline_ms": 1,
            "horizon_ms": 1,
            "max_candidates": 1,
            "top_k": 0,
            "max_per_source": 0,
        }
        for key, low in least.items():
            if getattr(self, key) < low:
                raise ValueError(f"{key}: got {getattr(self, key)}, expected at least {low}")
        if len({one.name for one in self.drop}) != len(self.drop):
            raise ValueError(
                f"drop: got {[one.name for one in self.drop]}, expected each name once"
            )
        if self.lookup_features and ":" in self.feature_set.name:
            raise ValueError(
                f"feature_set: got {self.feature_set.name!r}, expected one without ':' to be looked up by"
            )

    @property
    def reads_sources(self) -> bool:
        """Whether a rule looks at the sources of its candidates, so that its feeds name them."""
        return self.diversity is not None or self.max_per_source > 0

    @property
    def looks_up(self) -> bool:
        """Whether its requests may have something to look up."""
        return bool(self.drop) or self.lookup_features

    @property
    def absent_row(self) -> bytes | None:
        """What marks a candidate without features; None where it may not come so."""
        return self.feature_set.absent_row if self.lookup_features else None


Surfaces = Mapping[str, Surface]


def feature_sets_by_objective(surfaces: Surfaces) -> dict[str, list[FeatureSet]]:
    """The feature sets that each objective's model is given, over all surfaces that name it."""
    found: dict[str, dict[str, FeatureSet]] = {}
    for surface in surfaces.values():
        for objective in surface.objectives:
            found.setdefault(objective, {})[surface.feature_set.name] = surface.feature_set
    return {objective: list(sets.values()) for objective, sets in found.items()}


def check_drop_sets(surfaces: Surfaces) -> None:
    """Raises ValueError naming the key where a user's set and a surface's could meet under one key
    in Redis.
    """
    known: dict[str, SetOwner] = {}
    for name, one in ((name, one) for name, surface in surfaces.items() for one in surface.drop):
        if known.setdefault(one.name, one.owner) is not one.owner:
            expected = f"{known[one.name].value!r} as on another surface"
            raise ValueError(
                f"surfaces.{name}.drop.{one.name}: got {one.owner.value!r}, expected {expected}"
            )
