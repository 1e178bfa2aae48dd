"""The types of wire_codec.c."""

import numpy as np
from numpy.typing import NDArray

from workers.ranking.request import Event
from workers.ranking.surface import Surface

class EventReader:
    """Reads the usual events of some surfaces. Not thread-safe."""

    def __init__(
        self,
        event_type: type[Event],
        source_names: dict[str, str],
        surfaces: tuple[tuple[str, Surface, tuple[str, ...], bytes, bytes | None], ...],
    ) -> None:
        """Each of `surfaces`: its name, what goes into the Event, the names of its features, the
        row of their defaults, and the row of a candidate without features (None if it must have
        features).
        """

    def read_json(self, value: bytes, key: bytes | None, /) -> Event | None:
        """The event in JSON. None if Python must decide."""

    def read_protobuf(self, value: bytes, key: bytes | None, /) -> Event | None:
        """The event in Protobuf. None if Python must decide."""

def write_items(
    item_ids: list[str],
    final_scores: NDArray[np.float64],
    scores: NDArray[np.float64],
    /,
) -> bytes:
    """The items of a feed in Protobuf, none of which has a source or adjustments. `final_scores` are
    `[items]`, `scores` are `[items, objectives]`.

    Raises ValueError for other shapes or types, and if an id has no UTF-8.
    """

def murmur2(key: bytes, /) -> int:
    """Kafka's hash of a key, as a number without a sign."""
