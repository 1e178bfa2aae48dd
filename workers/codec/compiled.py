"""What is compiled of the codec (wire_codec.c), if it was built with this installation: a reader of
usual events, a writer of the items of Protobuf feeds, and the hash of the partitioner.

Without it Python does the same, with the same outcome, and takes more CPU.
"""

from collections.abc import Callable, Mapping

from workers.codec.formats import Format
from workers.codec.judge import SourceNames
from workers.ranking.feed import FeedItems
from workers.ranking.request import Event
from workers.ranking.surface import Surface, Surfaces

try:
    from workers.codec.wire_codec import EventReader, murmur2, write_items
except ImportError:
    IS_COMPILED = False
else:
    IS_COMPILED = True

ReadUsual = Callable[[bytes, bytes | None], Event | None]
"""Reads the value and the key of a record. None if the decoders in Python must decide."""

WriteItems = Callable[[FeedItems], bytes]
"""Writes items without sources and adjustments, as fields of a feed in Protobuf."""

HashKey = Callable[[bytes], int]
"""Hashes the key of a record."""


def item_writer(in_python: WriteItems) -> WriteItems:
    """The compiled writer of items if there is one, or else the one given."""
    return _write_items if IS_COMPILED else in_python


def _write_items(items: FeedItems) -> bytes:
    return write_items(list(items.item_ids), items.final_scores, items.scores)


def usual_readers(surfaces: Surfaces, sources: SourceNames) -> Mapping[Format, ReadUsual]:
    """A reader of usual events for each format. Without the compiled one, it leaves all to Python."""
    if not IS_COMPILED:
        return dict.fromkeys(Format, _leave_to_python)

    fields: list[tuple[str, Surface, tuple[str, ...], bytes, bytes | None]] = []
    for name, surface in surfaces.items():
        features = surface.feature_set
        fields.append((name, surface, features.names, features.default_row, surface.absent_row))
    reader = EventReader(Event, sources, tuple(fields))
    return {Format.JSON: reader.read_json, Format.PROTOBUF: reader.read_protobuf}


def key_hash(in_python: HashKey) -> HashKey:
    """The compiled hash if there is one, or else the one given."""
    return murmur2 if IS_COMPILED else in_python


def _leave_to_python(value: bytes, key: bytes | None) -> None:
    """Stands for the compiled reader."""
