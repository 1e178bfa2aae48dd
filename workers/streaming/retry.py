"""When a failed transaction is tried again: which partitions publish together, and which by
themselves.

1. After a failed transaction the next one waits: not at all the first time, since a rebalance is
   the usual reason, then 0.1 s, 0.2 s and so on up to 2 s.
2. If three of the transactions that fail in a row have the same cause, and the cause lies in the
   records, each partition is tried by itself, so that the sound ones go on. If the client has named
   the partitions whose records were refused, only those are tried by themselves.
3. A partition that fails by itself is isolated. It is tried again after 1 s, 2 s and so on up to
   10 s, and is read only as far as one more transaction would take.
4. A partition that goes through by itself publishes with the others again.

Each cause is logged when it begins, and once more when all are over. It is not logged for each try,
also if causes take turns.

What a failure means (publisher.py) and what is retried (outlet.py) is not decided here.
"""

from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass, replace

from workers.log import log
from workers.streaming.publisher import TransactionFailed

TRIES_TOGETHER = 3
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_FIRST_WAIT_ALONE = 1.0
_LONGEST_WAIT_ALONE = 10.0


@dataclass(frozen=True)
class Isolated:
    """A partition that publishes by itself. `tries`: how many have failed so far. `since` and
    `again_at` in monotonic seconds.
    """

    error: str
    since: float
    tries: int = 0
    again_at: float = 0.0


class Retries:
    """The failed transactions of one worker, and what follows from them. Reads no clock: `now` is
    in monotonic seconds.

    `isolated` is replaced whole, so any thread may read it.
    """

    def __init__(self) -> None:
        self.isolated: Mapping[int, Isolated] = {}
        self._tries = 0  # transactions that failed in a row
        self._causes: dict[str, int] = {}  # how many of them for each cause
        self._paused_until = 0.0

    def groups(self, partitions: Iterable[int], now: float) -> list[list[int]]:
        """The partitions that may publish now, each list in a transaction of its own."""
        together: list[int] = []
        alone: list[list[int]] = []
        for number in partitions:
            isolated = self.isolated.get(number)
            if isolated is None:
                together.append(number)
            elif now >= isolated.again_at:
                alone.append([number])

        if not together or now < self._paused_until:
            return alone
        return [together, *alone]

    def is_failing(self, number: int) -> bool:
        """Whether the last transaction of a partition failed, as far as is known."""
        isolated = self.isolated.get(number)
        if isolated is not None:
            return isolated.tries > 0
        return self._tries > 0

    def failed(self, group: Collection[int], failure: TransactionFailed, now: float) -> None:
        """Note that the transaction of a group failed."""
        if len(group) == 1:
            (number,) = group
            if number in self.isolated:
                self._failed_alone(number, failure, now)
                return

        cause = failure.cause
        if cause not in self._causes:
            log.warning("transaction_aborted", cause=cause, error=str(failure))
        self._causes[cause] = self._causes.get(cause, 0) + 1
        self._tries += 1
        pause = 0.0
        if self._tries > 1:
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** (self._tries - 2))
        self._paused_until = now + pause

        if self._causes[cause] >= TRIES_TOGETHER and failure.blames_records:
            suspects = failure.partitions & set(group) or set(group)
            suspected = Isolated(error=str(failure), since=now)
            self.isolated = {**self.isolated, **dict.fromkeys(suspects, suspected)}
            self._causes[cause] = 0
            self._tries = 0
            self._paused_until = now

    def _failed_alone(self, number: int, failure: TransactionFailed, now: float) -> None:
        before = self.isolated[number]
        if failure.blames_records:
            if not before.tries:
                log.error(
                    "partition_isolated",
                    partition=number,
                    error=str(failure),
                    doing="the others go on",
                )
            wait = min(_LONGEST_WAIT_ALONE, _FIRST_WAIT_ALONE * 2.0**before.tries)
            after = replace(before, error=str(failure), tries=before.tries + 1, again_at=now + wait)
        else:
            # The broker or the group was the reason. That says nothing about the partition.
            after = replace(before, again_at=now + _FIRST_PAUSE)
        self.isolated = {**self.isolated, number: after}

    def succeeded(self, group: Collection[int]) -> None:
        """Note that the transaction of a group went through."""
        freed = [number for number in group if number in self.isolated]
        if freed:
            back = [number for number in freed if self.isolated[number].tries]
            self._free(freed)
            if back:
                log.info("partition_publishes_again", partitions=back)
            return

        if self._tries > 1:
            log.info("transactions_go_on", cause=", ".join(self._causes), failed=self._tries)
        self._causes.clear()
        self._tries = 0
        self._paused_until = 0.0

    def keep(self, ours: Container[int]) -> None:
        """Forget the partitions that are not among `ours` any more."""
        if self.isolated:
            self._free([number for number in self.isolated if number not in ours])

    def _free(self, partitions: Collection[int]) -> None:
        if partitions:
            isolated = dict(self.isolated)
            for number in partitions:
                del isolated[number]
            self.isolated = isolated
