"""What each stage of the hot path costs by itself: one thread, no Kafka and no Redis.

The records are in memory, and the product's own functions are called in the worker's order: 250
records are decoded and assembled at a time, and what has closed is ranked in micro-batches. So the
stages together are what the worker spends outside of its client libraries and its loop.
"""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tests.bench.inputs import INPUTS, Input
from tests.rig.machine import Machine, this_machine
from tests.rig.process import until
from tests.rig.traffic import Message, now_ms
from workers.assembly.assembler import NO_TIME, Assembler, Mark
from workers.codec.decoder import Decoder
from workers.codec.feeds import encode_feed
from workers.codec.formats import Format, Headers
from workers.pipeline import rank_requests
from workers.ranking.mix import Mix
from workers.ranking.surface import Surface, Surfaces
from workers.scoring.registry import Registry
from workers.scoring.scorer import SurfaceModels
from workers.surfaces import load_surfaces

STAGES = ("decode", "assemble", "rank", "encode")
PROTOBUF = "encode Protobuf"
"""The same feeds in Protobuf, beside the stages."""
_RECORDS_AT_ONCE = 250
_MICRO_BATCH = 8192
_MODELS_BYTES = 2**30
_RECORD_BYTES = 2**20


@dataclass(frozen=True)
class StageLimits:
    """Candidates of each input, and how often each is repeated: the least time of a stage counts."""

    seed: int = 1
    candidates: int = 100_000
    repeats: int = 5


@dataclass(frozen=True)
class StageCost:
    """Microseconds of CPU a candidate, by stage, of one input."""

    input: str
    stages: dict[str, float]

    @property
    def sum(self) -> float:
        """All stages, with feeds in JSON."""
        return round(sum(self.stages[stage] for stage in STAGES), 2)


@dataclass(frozen=True)
class StageReport:
    """The stages of every input, and encoding feeds of the same requests in Protobuf."""

    machine: Machine
    limits: StageLimits
    costs: tuple[StageCost, ...]

    def as_json(self) -> dict[str, Any]:
        """The same figures, for `--json`."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """The report as a page."""
        yield from self.machine.lines()
        limits = self.limits
        yield f"\nStages: CPU us a candidate, one thread, no Kafka; least of {limits.repeats}; seed {limits.seed}"
        head = "".join(f"{stage:>10}" for stage in (*STAGES, "sum"))
        yield f"  {'input':<24}{head}  {PROTOBUF}"
        for cost in self.costs:
            figures = "".join(f"{cost.stages[stage]:>10.2f}" for stage in STAGES)
            yield f"  {cost.input:<24}{figures}{cost.sum:>10.2f}{cost.stages[PROTOBUF]:>17.2f}"


class _Clock:
    """Adds up the CPU seconds of this thread, by stage."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys((*STAGES, PROTOBUF), 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what the block takes."""
        before = time.thread_time()
        yield
        self.seconds[name] += time.thread_time() - before


def measure_stages(
    folder: Path, limits: StageLimits, say: Callable[[str], None], inputs: Sequence[Input] = INPUTS
) -> StageReport:
    """Measure all inputs with the surfaces and the models of a folder."""
    surfaces = load_surfaces(folder / "surfaces.toml")
    costs = []
    with Registry(folder / "models", surfaces, _MODELS_BYTES) as registry:
        for surface in surfaces.values():
            _wait_until_loaded(registry, surface)
        for shape in inputs:
            say(f"stages: {shape.name}")
            load = shape.load(limits.seed)
            requests = limits.candidates // shape.candidates
            records = list(load.interleaved(requests, now_ms(), batch=shape.batch))
            runs = [_run(records, load.headers, surfaces, registry) for _ in range(limits.repeats)]
            stages = {
                stage: round(min(run[stage] for run in runs) / limits.candidates * 1e6, 3)
                for stage in (*STAGES, PROTOBUF)
            }
            costs.append(StageCost(shape.name, stages))
    return StageReport(this_machine(), limits, tuple(costs))


def _wait_until_loaded(registry: Registry, surface: Surface) -> None:
    objectives = tuple(surface.weight_rules.default().values)
    until(lambda: isinstance(registry.models_for(surface, objectives), SurfaceModels))


def _run(
    records: Sequence[Message], headers: Headers, surfaces: Surfaces, registry: Registry
) -> dict[str, float]:
    """CPU seconds by stage, for all records. Like the worker it runs without the cyclic garbage
    collection.
    """
    clock = _Clock()
    decoder = Decoder(surfaces)
    assembler = Assembler(Mark(low_water=0, scan=0, time=NO_TIME, next=0))
    mixes = {name: Mix(surface.weight_rules.default()) for name, surface in surfaces.items()}
    offset = 0
    feeds = 0

    def rank() -> None:
        nonlocal feeds
        with clock.stage("assemble"):
            requests = assembler.take_closed(_MICRO_BATCH)
        with clock.stage("rank"):
            ranked = rank_requests(
                requests, registry, mixes.__getitem__, lambda request: request.requested_at
            )
        with clock.stage("encode"):
            for feed in ranked.feeds:
                assert feed is not None
                encode_feed(feed, Format.JSON, _RECORD_BYTES)
        with clock.stage(PROTOBUF):
            for feed in ranked.feeds:
                assert feed is not None
                encode_feed(feed, Format.PROTOBUF, _RECORD_BYTES)
        with clock.stage("assemble"):
            assembler.publish(requests)
        feeds += len(requests)

    gc.collect()
    gc.disable()
    try:
        waiting = iter(records)
        while chunk := list(islice(waiting, _RECORDS_AT_ONCE)):
            with clock.stage("decode"):
                events = [decoder.decode(value, key, list(headers)) for key, value in chunk]
            with clock.stage("assemble"):
                for event in events:
                    assembler.observe(offset, event.requested_at)
                    assembler.take(event, offset, event.requested_at)
                    offset += 1
            del events
            if assembler.closed_candidates >= _MICRO_BATCH:
                rank()
        while assembler.closed_candidates:
            rank()
    finally:
        gc.enable()

    expected = len({key for key, _ in records})
    assert feeds == expected, f"{expected} requests, {feeds} feeds"
    return clock.seconds
