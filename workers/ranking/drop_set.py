"""Drop sets: which items a surface drops, by sets that live in Redis."""

from dataclasses import dataclass
from enum import StrEnum

from workers.ranking.removal import RemovalReason

FEATURES = "features"
"""What the look-up of features is called where drop sets are called by their names."""
_RESERVED = frozenset(
    {"weights", "experiment", "models", "history", "workers", FEATURES, *RemovalReason}
)


class Whose(StrEnum):
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
    whose: Whose

    def __post_init__(self) -> None:
        if not self.name or ":" in self.name:
            raise ValueError(
                f"drop.{self.name}: expected a name without ':', which parts the keys in Redis"
            )
        if self.name in _RESERVED:
            raise ValueError(
                f"drop.{self.name}: expected another name than {', '.join(sorted(_RESERVED))}"
            )

    def owner(self, surface: str, user_id: str) -> str:
        """Whose set it is for a request of this surface and user: what follows the name in the key."""
        return user_id if self.whose is Whose.USER else surface
