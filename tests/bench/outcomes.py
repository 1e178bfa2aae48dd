"""What outcomes cost: the join beside its peers on one backlog, its memory and its restart, and what
feed records cost the worker that writes them.
"""

import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from statistics import median

from tests.bench.backlog import measure_backlog
from tests.bench.cost import MIB
from tests.bench.inputs import SINGLE_JSON
from tests.bench.meter import Meter
from tests.bench.outcome_load import TAKE_AT_LEAST, OutcomeLoad, OutcomeMessage
from tests.bench.outcome_report import (
    JoinCost,
    OpenMemory,
    OutcomeLimits,
    OutcomeReport,
    Restart,
    WorkerPairs,
)
from tests.bench.programs import JOIN, WORKER, Program
from tests.bench.topics import send
from tests.rig.environment import Environment
from tests.rig.machine import this_machine
from tests.rig.measured import SURFACES, measured_environment
from tests.rig.process import Process, pause
from tests.rig.progress import wait_until_published, wait_until_taken
from tests.rig.topics import read_to_end
from workers.codec.outcomes import decode_request_outcomes
from workers.streaming.records import read_headers
from workers.streaming.send import Sender

_LONG_WINDOW_S = 24 * 3600
_OUTCOMES = f"""
[surfaces.home.outcomes]
window_s = {_LONG_WINDOW_S}
seen = {{ kind = "view" }}
take = {{ kind = "dwell", at_least = {TAKE_AT_LEAST} }}
others = {{ hide = {{ kind = "hide" }} }}
"""
_READY = re.compile(r"timestamp=(\S+) .*event=(?:restored|ready)")
_TOTALS = re.compile(r"event=totals seen=(\d+) takes=(\d+)")

Say = Callable[[str], None]


def measure_outcomes(
    env: Environment,
    limits: OutcomeLimits,
    say: Say,
    *,
    peers: Sequence[Program] = (),
    slow_peers: Sequence[Program] = (),
) -> OutcomeReport:
    """Measure everything about outcomes on the servers of an environment. `slow_peers` get a smaller
    backlog. `say` gets a line for each step.
    """
    load_before = os.getloadavg()[0]
    folder = env.folder / "outcomes"
    folder.mkdir()
    counting = measured_environment(env.kafka, env.redis, folder, SURFACES + _OUTCOMES)

    say(f"writing a backlog of {limits.backlog_feeds * limits.interactions:,} interactions")
    backlog = Backlog(counting, limits, limits.backlog_feeds)
    costs = measure_costs(backlog, [JOIN, *peers], limits.turns, say)
    if slow_peers:
        small = Backlog(counting, limits, limits.slow_feeds)
        costs += measure_costs(small, slow_peers, 1, say)

    say(f"{JOIN.name}: memory of {limits.open_feeds:,} open feeds")
    memory = measure_open_memory(counting, limits)

    say(f"{JOIN.name}: restart with {limits.restart_feeds:,} open feeds")
    restart = measure_restart(counting, limits)

    worker = measure_worker(env, counting, limits, say)

    return OutcomeReport(
        machine=this_machine(),
        limits=limits,
        load=(load_before, os.getloadavg()[0]),
        costs=tuple(costs),
        memory=memory,
        restart=restart,
        worker=worker,
    )


def join_environment(env: Environment, interactions: str = "") -> Environment:
    """An environment whose input is a topic of interactions: a new one, or the one that is named."""
    own = env.fresh(candidates=interactions, TRIMTAB_MAX_OUTCOMES_MB="8192")
    # What the rig asks about candidates and their group is here about the join's.
    own.interactions = own.candidates
    own.outcomes_group = own.name
    own.create_outcome_topics()
    return own


def send_outcomes(env: Environment, messages: Iterable[OutcomeMessage]) -> int:
    """Send all of them, and wait until the broker has them. Returns how many there were."""
    sender = env.sender()
    for key, value, headers in messages:
        sender.send(key, value, headers)
    sender.finish()
    return sender.sent


def send_to_each_partition(env: Environment, message: OutcomeMessage) -> None:
    """Send a record to every partition, whatever its key."""
    sender = Sender.to(env.cluster, env.candidates)
    for partition in range(env.partitions):
        sender.producer.produce(
            env.candidates,
            message.value,
            message.key,
            partition=partition,
            headers=list(message.headers),
        )
    assert sender.producer.flush(30) == 0


class Backlog:
    """Feeds and their interactions that are there before a program starts. The windows of all feeds
    are over: the last record of each partition is that much later.
    """

    def __init__(self, env: Environment, limits: OutcomeLimits, feeds: int) -> None:
        self.feeds = feeds
        self.interactions = feeds * limits.interactions
        self._env = join_environment(env)
        self._load = OutcomeLoad(limits.seed, limits.backlog_window_s)
        self._records = send_outcomes(self._env, self._load.log(feeds, limits.interactions))

        pause(limits.backlog_window_s + 1)
        send_to_each_partition(self._env, self._load.feed(feeds))

    def measure(self, program: Program) -> float:
        """CPU seconds of a program for all of it, from its first partition to its last commit. Fails
        if it has not counted what the load says.
        """
        env = join_environment(self._env, self._env.candidates)
        with program.start(env) as process, Meter(process.pid) as meter:
            wait_until_published(env, process, self._records)
            done = time.time()
        seconds = meter.cpu_between(_ready_at(process), done)

        expected = (len(self._load.seen), len(self._load.taken))
        if program.counts:
            counted = _counted(env, process, program, self.feeds)
            assert counted == expected, f"{program.name}: seen, takes {counted}, not {expected}"
        return seconds


def measure_costs(
    backlog: Backlog, programs: Sequence[Program], turns: int, say: Say
) -> list[JoinCost]:
    """Each program on the same backlog, in turns: the machine may be slower at one time than at
    another.
    """
    seconds: dict[str, list[float]] = {program.name: [] for program in programs}
    for turn in range(turns):
        for program in programs:
            say(f"{program.name}: backlog, turn {turn + 1}")
            seconds[program.name].append(backlog.measure(program))

    costs = []
    for program in programs:
        times = tuple(round(one / backlog.interactions * 1e6, 2) for one in seconds[program.name])
        costs.append(
            JoinCost(
                name=program.name,
                delivery=program.delivery,
                lacks=program.lacks,
                interactions=backlog.interactions,
                microseconds=median(times),
                turns=times,
            )
        )
    return costs


def _ready_at(process: Process) -> float:
    """When a process had its first partition, in seconds since the epoch, by its log."""
    found = _READY.search(process.logged())
    assert found is not None, process.logged()
    return datetime.fromisoformat(found[1]).timestamp()


def _counted(env: Environment, process: Process, program: Program, feeds: int) -> tuple[int, int]:
    """How many items a program has counted as seen and as taken."""
    if program is not JOIN:
        totals = _TOTALS.findall(process.logged())[-1]
        return int(totals[0]), int(totals[1])

    requests: set[str] = set()
    seen = 0
    takes = 0
    for record in read_to_end(env.kafka, env.request_outcomes):
        outcomes = decode_request_outcomes(record.value(), read_headers(record))
        assert outcomes.request_id not in requests, f"doubled: {outcomes.request_id}"
        requests.add(outcomes.request_id)
        seen += outcomes.seen
        takes += outcomes.takes
    assert len(requests) == feeds, f"{feeds} feeds, outcomes of {len(requests)}"
    return seen, takes


def measure_open_memory(env: Environment, limits: OutcomeLimits) -> OpenMemory:
    """Open feeds without end, and look at the resident memory of the join."""
    own = join_environment(env)
    load = OutcomeLoad(limits.seed, _LONG_WINDOW_S)
    with JOIN.start(own) as join, Meter(join.pid) as meter:
        JOIN.wait_until_ready(join)
        before = meter.resident
        send_outcomes(own, load.log(limits.open_feeds, interactions=0))
        wait_until_taken(own, join, limits.open_feeds)
        all_open = meter.resident
    return OpenMemory(
        feeds=limits.open_feeds,
        before_mib=round(before / MIB, 1),
        open_mib=round(all_open / MIB, 1),
        peak_mib=round(meter.peak / MIB, 1),
    )


def measure_restart(env: Environment, limits: OutcomeLimits) -> Restart:
    """Take in feeds and interactions while no window ends, stop, and start again.

    A further record waits in each partition then. When it is taken, everything was replayed.
    """
    own = join_environment(env)
    load = OutcomeLoad(limits.seed, _LONG_WINDOW_S)
    log = load.log(limits.restart_feeds, limits.restart_interactions)
    records = send_outcomes(own, log)
    with JOIN.start(own) as join:
        wait_until_taken(own, join, records)

    send_to_each_partition(own, load.feed(limits.restart_feeds))
    started = time.time()
    with JOIN.start(own) as join, Meter(join.pid) as meter:
        wait_until_taken(own, join, records + own.partitions)
        caught_up = time.time()
        ready = _ready_at(join)
        cpu = meter.cpu
        resident = meter.resident
    return Restart(
        feeds=limits.restart_feeds,
        records=records,
        ready_s=round(ready - started, 1),
        caught_up_s=round(caught_up - started, 1),
        cpu_s=round(cpu, 1),
        resident_mib=round(resident / MIB, 1),
    )


def measure_worker(
    plain: Environment, counting: Environment, limits: OutcomeLimits, say: Say
) -> WorkerPairs:
    """A worker on one backlog of candidates, in pairs: its surface without outcomes, and with them.
    Each feed must have its record.
    """
    load = SINGLE_JSON.load(limits.seed)
    backlog = plain.fresh()
    requested_at = time.time_ns() // 1_000_000
    send(backlog, load.interleaved(limits.worker_requests, requested_at))

    def measure_one(env: Environment) -> float:
        own = env.fresh(candidates=backlog.candidates)
        own.create_outcome_topics()
        cost, _ = measure_backlog(WORKER, own, SINGLE_JSON, limits.worker_requests)
        written = len(read_to_end(own.kafka, own.interactions))
        assert written == (limits.worker_requests if env is counting else 0), written
        return cost.microseconds

    without: list[float] = []
    with_outcomes: list[float] = []
    for pair in range(limits.worker_pairs):
        say(f"{WORKER.name}: without and with outcomes, pair {pair + 1}")
        # Each of the two is the first one in turn.
        if pair % 2:
            with_outcomes.append(measure_one(counting))
            without.append(measure_one(plain))
        else:
            without.append(measure_one(plain))
            with_outcomes.append(measure_one(counting))

    ratios = [after / before for before, after in zip(without, with_outcomes, strict=True)]
    return WorkerPairs(
        candidates=limits.worker_requests * SINGLE_JSON.candidates,
        without=tuple(without),
        with_outcomes=tuple(with_outcomes),
        ratio=round(median(ratios), 3),
        ratios=tuple(round(ratio, 3) for ratio in ratios),
    )
