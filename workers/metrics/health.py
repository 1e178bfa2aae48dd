"""Whether a process is alive, and whether it is ready.

`/livez` is for whoever restarts processes, so it says no only if nothing but a restart helps:

| the loop                                                | live |
|---------------------------------------------------------|------|
| is not put together yet: models, topics, rights         | yes  |
| turns, or waits for Kafka or Redis                      | yes  |
| has been in one bounded step for less than 30 s         | yes  |
| has been in one bounded step for longer                 | no   |
| has been in one step without a bound for 10 minutes     | no   |
| has ended                                               | no   |

A watchdog starts a process again that hangs for 15 s (process.py). So 30 s say that it could not. The
users stage has none: whoever asks it starts it again.
Steps without a bound score, and publish: each of their calls has a limit of its own.

`/readyz` is for whoever rolls out a new version, or waits for a start:

| the process                                             | ready |
|---------------------------------------------------------|-------|
| is not put together yet: it waits for models, or Kafka  | no    |
| has not been in the group yet                           | no    |
| restores a partition, or one fails                      | no    |
| drains or has ended                                     | no    |
| has no partition to read, because others have them all  | yes   |
| reads its partitions; some may stand still until        | yes   |
|   somebody acts, which no restart would change          |       |

A process that was ready stays so while a broker is away: it keeps its partitions. Redis does not
count for either, because ranking goes on without it.
"""

from collections.abc import Collection
from typing import Final, NamedTuple

HANGING_S: Final = 30.0
HANGING_UNBOUNDED_S: Final = 600.0


class Health(NamedTuple):
    """The answer, and its reason in a few words."""

    is_good: bool
    why: str


def loop_liveness(*, doing: str, seconds: float, is_bounded: bool) -> Health:
    """Whether a loop that has been `doing` the same for some seconds is alive."""
    limit = HANGING_S if is_bounded else HANGING_UNBOUNDED_S
    return Health(seconds < limit, f"{doing} for {seconds:.1f} s")


def loop_readiness(*, joins: int, states: Collection[str], is_stopping: bool) -> Health:
    """Whether a loop is ready: how often it was given partitions, and what it does with each."""
    if is_stopping:
        return Health(False, "draining")
    if not joins:
        return Health(False, "not in the group yet")

    for state in ("restoring", "failing"):
        count = sum(one == state for one in states)
        if count:
            return Health(False, f"partitions {state}: {count}")
    return Health(True, f"partitions: {len(states)}")
