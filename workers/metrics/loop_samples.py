"""What a loop exports: ranking and the join alike. Called from another thread, so it only reads, and
copies each mapping before it walks it.
"""

import time
from collections.abc import Mapping
from typing import Final

from workers.counts import StepTimes
from workers.metrics.health import Health, loop_liveness, loop_readiness
from workers.metrics.names import (
    BROKER_UP,
    LAG_RECORDS,
    LAG_RECORDS_MAX,
    LAG_SECONDS,
    LOOP_BUSY_SECONDS,
    PARTITION_STATE_SECONDS,
    PARTITIONS,
    REBALANCES,
    RESTORE_SECONDS,
    RESTORES,
    STEP_SECONDS,
    TRANSACTIONS,
    UNPUBLISHED_RECORDS,
)
from workers.metrics.samples import Sample, sample
from workers.streaming.partition import Partition
from workers.streaming.restore import R
from workers.streaming.stage import P
from workers.streaming.worker import Worker

_STATES: Final = ("reading", "restoring", "standing", "failing")
_ENDING: Final = ("drain", "leave the group")


def loop_samples(worker: Worker[P, R], steps: Mapping[str, int]) -> list[Sample]:
    """All series of a loop. `steps` are nanoseconds by step."""
    transactions = worker.outlet.transactions
    ownership = worker.ownership
    samples = [
        sample(LOOP_BUSY_SECONDS, worker.pulse.seconds()),
        sample(BROKER_UP, worker.reachability.is_sound),
        sample(TRANSACTIONS, transactions.committed, "committed"),
        sample(TRANSACTIONS, transactions.aborted, "aborted"),
        sample(TRANSACTIONS, transactions.lost, "lost"),
        sample(REBALANCES, ownership.joins),
        sample(RESTORES, ownership.restores),
        sample(RESTORE_SECONDS, ownership.restore_seconds),
        *_partition_states(worker),
        *_lag(worker),
    ]
    samples += [sample(STEP_SECONDS, took / 1e9, step) for step, took in steps.items()]
    return samples


def steps_of(*parts: StepTimes) -> dict[str, int]:
    """The times of several parts of a loop, added up, in nanoseconds by step. Steps that took no
    time are left out: the stage does not have them.
    """
    total: dict[str, int] = {}
    for part in parts:
        for step, took in vars(part).items():
            if took:
                total[step] = total.get(step, 0) + took
    return total


def liveness(worker: Worker[P, R]) -> Health:
    """Whether the loop is alive (health.py)."""
    pulse = worker.pulse
    return loop_liveness(doing=pulse.doing, seconds=pulse.seconds(), is_bounded=pulse.is_bounded)


def readiness(worker: Worker[P, R]) -> Health:
    """Whether the loop is ready (health.py)."""
    described = worker.ownership.describe_states(worker.outlet.retries.isolated)
    return loop_readiness(
        joins=worker.ownership.joins,
        states=[str(state["state"]) for state in described.values()],
        is_stopping=worker.pulse.doing in _ENDING,
    )


def _partition_states(worker: Worker[P, R]) -> list[Sample]:
    described = worker.ownership.describe_states(worker.outlet.retries.isolated)
    counts = dict.fromkeys(_STATES, 0)
    longest = dict.fromkeys(_STATES[1:], 0.0)
    for partition in described.values():
        state = str(partition["state"])
        counts[state] += 1
        for_ms = partition.get("for_ms")
        if isinstance(for_ms, int) and state in longest:
            longest[state] = max(longest[state], for_ms / 1000)

    samples = [sample(PARTITIONS, count, state) for state, count in counts.items()]
    samples += [
        sample(PARTITION_STATE_SECONDS, seconds, state) for state, seconds in longest.items()
    ]
    return samples


def _lag(worker: Worker[P, R]) -> list[Sample]:
    now_ms = time.time_ns() // 1_000_000
    ends = worker.lag.ends
    unread = list[int]()
    behind_s = 0.0
    for number, partition in dict(worker.ownership.partitions).items():
        if number not in ends:
            continue
        records = max(0, ends[number] - partition.read_below)
        unread.append(records)
        if records:
            behind_s = max(behind_s, _seconds_behind(partition, now_ms))

    return [
        sample(LAG_RECORDS, sum(unread)),
        sample(LAG_RECORDS_MAX, max(unread, default=0)),
        sample(LAG_SECONDS, behind_s),
        sample(UNPUBLISHED_RECORDS, sum(worker.lag.records.values())),
    ]


def _seconds_behind(partition: Partition, now_ms: int) -> float:
    """How far stream time is behind the clock. 0 if nothing was read yet: then it is not known."""
    stream_time = partition.content.stream_time
    return max(0, now_ms - stream_time) / 1000 if stream_time > 0 else 0.0
