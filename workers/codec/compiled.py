"""The compiled reader of usual events (event_reader.c), if it was built with this installation.

Without it every event is decoded in Python: with the same outcome, and more CPU.
"""

from collections.abc import Callable, Mapping

from workers.codec.formats import Format
from workers.codec.judge import SourceNames
from workers.ranking.request import Event
from workers.ranking.surface import Surface, Surfaces

try:
    from workers.codec.event_reader import EventReader
except ImportError:
    IS_COMPILED = False
else:
    IS_COMPILED = True

ReadUsual = Callable[[bytes, bytes | None], Event | None]
"""Reads the value and the key of a record. None if the decoders in Python must decide."""


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


def _leave_to_python(value: bytes, key: bytes | None) -> None:
    """Stands for the compiled reader."""
