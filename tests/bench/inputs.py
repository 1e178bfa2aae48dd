"""What is sent to the programs that are measured."""

from dataclasses import dataclass

from tests.rig.traffic import Load
from workers.codec.formats import Format


@dataclass(frozen=True)
class Input:
    """The shape of the events. A request has `candidates`, each event up to `batch` of them."""

    name: str
    wire: Format
    candidates: int = 50
    batch: int = 1

    def load(self, seed: int, surfaces: tuple[str, ...] = ("home",)) -> Load:
        """Its events, from a seed."""
        return Load(seed, self.candidates, surfaces, self.wire)


SINGLE_JSON = Input("single JSON", Format.JSON)
SINGLE_PROTOBUF = Input("single Protobuf", Format.PROTOBUF)
BATCH_JSON = Input("batch JSON of 50", Format.JSON, batch=50)
BATCH_PROTOBUF = Input("batch Protobuf of 100", Format.PROTOBUF, candidates=100, batch=100)
STREAM_JSON = Input("batch JSON of 10", Format.JSON, batch=10)

INPUTS = (SINGLE_JSON, BATCH_JSON, SINGLE_PROTOBUF, BATCH_PROTOBUF)
