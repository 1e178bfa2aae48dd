"""The keys in Redis. `prefix` stands before each."""

from dataclasses import dataclass
from typing import Any

from workers.steering.documents import FOLLOWED_KINDS, DocumentKind


@dataclass(frozen=True)
class Keys:
    """Names of surfaces, arms, drop sets and feature sets hold no `:`, so no two keys are equal."""

    prefix: str = ""

    def document(self, surface: str, kind: DocumentKind[Any], arm: str | None = None) -> str:
        """The hash with a steering document of a surface, or of one of its arms."""
        key = f"{self.prefix}{kind.name}:{surface}"
        return key if arm is None else f"{key}:{arm}"

    @property
    def document_prefixes(self) -> tuple[str, ...]:
        """What the keys of the documents that workers follow begin with."""
        return tuple(f"{self.prefix}{kind.name}:" for kind in FOLLOWED_KINDS)

    def surface_of(self, key: bytes) -> str | None:
        """The name of the surface whose steering document has this key; None for another key."""
        text = key.decode(errors="replace")
        for prefix in self.document_prefixes:
            if text.startswith(prefix):
                return text.removeprefix(prefix).partition(":")[0]
        return None

    def history(self, surface: str) -> str:
        """The stream of all changes to the steering documents of a surface."""
        return f"{self.prefix}history:{surface}"

    def status(self, worker: str) -> str:
        """The string with a worker's status, which expires."""
        return f"{self.prefix}workers:status:{worker}"

    @property
    def live(self) -> str:
        """The sorted set of the workers' ids, by the time of their last status in milliseconds."""
        return f"{self.prefix}workers:live"

    def stage_status(self, stage: str, process: str) -> str:
        """The string with the status of a process of `join` or `users`, which expires."""
        return f"{self.prefix}outcomes:status:{stage}:{process}"

    @property
    def live_stages(self) -> str:
        """The sorted set of those processes, as `{stage}:{process}`, by the time of their last
        status in milliseconds.
        """
        return f"{self.prefix}outcomes:live"

    def drop_set(self, name: str, owner: str) -> str:
        """The set of items that are dropped for a user, or on a surface."""
        return f"{self.prefix}{name}:{owner}"

    def features(self, feature_set: str, item_id: str) -> str:
        """The string with an item's features: little-endian float32, one for each name of the
        feature set.
        """
        return f"{self.prefix}features:{feature_set}:{item_id}"
