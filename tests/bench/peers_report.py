"""The worker beside its peers, on the same backlog and in the same turn. Each writes whole feeds, and
its feeds are compared with the worker's.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench.backlog import BacklogCost, Backlogs, Case, cost_beside
from tests.bench.cost import Cost
from tests.bench.inputs import SINGLE_JSON
from tests.bench.peers.environment import (
    BYTEWAX,
    FAUST,
    QUIX,
    kafka_streams_jars,
    peers_python,
)
from tests.bench.programs import (
    PLAIN_LOOP,
    WORKER,
    Program,
    bytewax,
    faust_ranking,
    kafka_streams,
    quix,
)
from tests.rig.environment import Environment
from tests.rig.machine import Machine, this_machine
from workers.streaming.records import Fetched

TOLERANCE = 1e-6
"""Of a score: other versions of onnxruntime round the last bits of a float32 differently."""
_COMPARED = 500

Say = Callable[[str], None]


@dataclass(frozen=True)
class PeersLimits:
    """How much is measured, and from which seed. Slow peers get a fifth of the backlog."""

    seed: int = 1
    candidates: int = 500_000


@dataclass(frozen=True)
class PeersReport:
    """`costs` begin with the worker and the plain loop. Ratios are to that loop."""

    machine: Machine
    limits: PeersLimits
    costs: tuple[BacklogCost, ...]

    def as_json(self) -> dict[str, Any]:
        """The same figures, for `--json`."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """The report as a page."""
        yield from self.machine.lines()
        yield f"\nPeers on single JSON, seed {self.limits.seed}: CPU us a candidate, whole process; ratio to the loop"
        for cost in self.costs:
            yield (
                f"  {cost.name:<28}{cost.delivery:<15}{cost.microseconds:8.2f}  ratio {cost.ratio:6.2f}; "
                f"{cost.candidates_a_second:,} candidates/s, "
                f"at most {cost.turns[0].peak_resident_mib:.0f} MiB resident; {cost.lacks}"
            )


def frameworks(cache: Path) -> tuple[list[Program], list[Program], Program | None]:
    """Peers in Python, those that are slow, and Kafka Streams if Java and Maven are there."""
    peers = [
        quix(peers_python(cache / "bench-quix", QUIX)),
        bytewax(peers_python(cache / "bench-bytewax", BYTEWAX)),
    ]
    slow = [faust_ranking(peers_python(cache / "bench-faust", FAUST))]
    # The start of a source file needs the compiler, which a JRE does not have.
    if shutil.which("javac") and shutil.which("mvn"):
        return peers, slow, kafka_streams(kafka_streams_jars(cache))
    return peers, slow, None


def measure_peers(env: Environment, limits: PeersLimits, cache: Path, say: Say) -> PeersReport:
    """Measure worker, plain loop and every framework. Fails if one ranks otherwise than the worker."""
    peers, slow, java = frameworks(cache)
    if java is None:
        say("peers: without Kafka Streams, which needs javac and mvn on PATH")
    backlogs = Backlogs(env, limits.seed, limits.candidates)

    def measure(program: Program, some: Backlogs) -> tuple[Cost, list[Fetched]]:
        say(f"peers: {program.name}")
        return some.measure(Case(program.name, program, SINGLE_JSON, env))

    ours, feeds = measure(WORKER, backlogs)
    expected = {str(feed["request_id"]): feed for feed in _documents(feeds)}
    loop, feeds = measure(PLAIN_LOOP, backlogs)
    compare_feeds(expected, _documents(feeds), PLAIN_LOOP.name)
    costs = [
        cost_beside(WORKER.name, WORKER, SINGLE_JSON, ours, loop),
        cost_beside(PLAIN_LOOP.name, PLAIN_LOOP, SINGLE_JSON, loop, loop),
    ]

    few = Backlogs(env, limits.seed, limits.candidates // 5)
    for program in [*peers, *slow]:
        cost, feeds = measure(program, few if program in slow else backlogs)
        compare_feeds(expected, _documents(feeds), program.name)
        costs.append(cost_beside(program.name, program, SINGLE_JSON, cost, loop))

    if java is not None:
        say(f"peers: {java.name}")
        twice = Backlogs(env, limits.seed, 2 * limits.candidates)
        case = Case(java.name, java, SINGLE_JSON, env)
        first, warm, feeds = twice.measure_halves(case)
        compare_feeds(expected, _documents(feeds), java.name)
        costs += [
            cost_beside(f"{java.name}, first pass", java, SINGLE_JSON, first, loop),
            cost_beside(f"{java.name}, warm", java, SINGLE_JSON, warm, loop),
        ]
    return PeersReport(this_machine(), limits, tuple(costs))


def compare_feeds(
    expected: Mapping[str, Mapping[str, Any]], feeds: Sequence[Mapping[str, Any]], name: str
) -> None:
    """Every feed must have the order of the worker's, and its scores. Items whose final scores are
    equal within the tolerance may change places.
    """
    assert feeds, f"{name}: no feed to compare"
    for feed in feeds:
        ours = expected[feed["request_id"]]
        where = f"{name}: {feed['request_id']}"
        by_id = {item["item_id"]: item for item in ours["items"]}
        assert by_id.keys() == {item["item_id"] for item in feed["items"]}, where
        for theirs, there in zip(feed["items"], ours["items"], strict=True):
            assert abs(theirs["final_score"] - there["final_score"]) <= TOLERANCE, where
            own = by_id[theirs["item_id"]]
            assert abs(theirs["final_score"] - own["final_score"]) <= TOLERANCE, where
            for objective, score in own["scores"].items():
                assert abs(theirs["scores"][objective] - score) <= TOLERANCE, where


def _documents(feeds: Sequence[Fetched]) -> list[dict[str, Any]]:
    """The feeds of the requests with the lowest numbers, which every backlog has."""
    first = sorted(feeds, key=lambda feed: feed.key() or b"")[:_COMPARED]
    return [json.loads(feed.value() or b"") for feed in first]
