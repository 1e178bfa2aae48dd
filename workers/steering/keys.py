"""The keys in Redis; `prefix` stands before each."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Keys:
    """Names of surfaces, arms, drop sets and feature sets hold no `:`, so that no two keys meet."""

    prefix: str = ""

    def weights(self, surface: str, arm: str | None = None) -> str:
        """The hash with the weights of a surface, or of one of its arms."""
        return f"{self.prefix}weights:{surface}" + (f":{arm}" if arm else "")

    def experiment(self, surface: str) -> str:
        """The hash with an experiment's salt and the percentage of each arm."""
        return f"{self.prefix}experiment:{surface}"

    def models(self, surface: str, arm: str | None = None) -> str:
        """The hash with the model versions that are pinned on a surface, or for one of its arms."""
        return f"{self.prefix}models:{surface}" + (f":{arm}" if arm else "")

    def history(self, surface: str) -> str:
        """The stream of all changes to the weights, models, arms and experiment of a surface."""
        return f"{self.prefix}history:{surface}"

    def status(self, worker: str) -> str:
        """The string with a worker's status, which expires."""
        return f"{self.prefix}workers:status:{worker}"

    def surface_of(self, key: bytes) -> str | None:
        """The name of the surface that a steering document is of; None for another key."""
        text = key.decode(errors="replace")
        begin = next((begin for begin in self.steered if text.startswith(begin)), None)
        return None if begin is None else text.removeprefix(begin).partition(":")[0]

    def drop_set(self, name: str, owner: str) -> str:
        """The set of items that are dropped for a user, or on a surface."""
        return f"{self.prefix}{name}:{owner}"

    def features(self, feature_set: str, item_id: str) -> str:
        """The string with an item's features: little-endian float32, one for each name of the
        feature set.
        """
        return f"{self.prefix}features:{feature_set}:{item_id}"

    @property
    def live(self) -> str:
        """The sorted set of the workers' ids, by the time of their last status in milliseconds."""
        return f"{self.prefix}workers:live"

    @property
    def steered(self) -> tuple[str, ...]:
        """What the keys of steering documents begin with."""
        return f"{self.prefix}weights:", f"{self.prefix}experiment:", f"{self.prefix}models:"
