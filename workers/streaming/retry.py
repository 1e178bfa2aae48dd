"""Which partitions publish together, which by themselves, and when: decided after transactions that
failed.

1. After a failed transaction nothing is published for a while: not at all the first time, since a
   rebalance is the usual reason, then for 0.1 s, 0.2 s and so on up to 2 s.
2. If three of the transactions that fail in a row do so for the same cause, and the cause lies in
   the records, each partition is tried by itself, so that those that are sound go on. If the client
   has named the partitions whose records were refused, only those are tried by themselves.
3. A partition that fails by itself is isolated. It is tried again after 1 s, 2 s and so on up to 10
   s, and is read only as far as one more transaction would take.
4. A partition that goes through by itself publishes with the others again.

Each cause is logged when it begins, and once more when all are over: never once for each try, also
where causes take turns.
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
    """A partition that publishes by itself. `tries` that failed so far, `since` and `again_at` in
    monotonic seconds.
    """

    error: str
    since: float
    tries: int = 0
    again_at: float = 0.0


class Retries:
    """Of one worker. Reads no clock: `now` is monotonic seconds."""

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
        """Whether the last transaction that a partition was in, or may have been in, failed."""
        isolated = self.isolated.get(number)
        if isolated is not None:
            return isolated.tries > 0
        return self._tries > 0

    def failed(self, group: Collection[int], failure: TransactionFailed, now: float) -> None:
        """Note that the transaction of a group failed."""
        if len(group) == 1 and next(iter(group)) in self.isolated:
            self._failed_alone(next(iter(group)), failure, now)
            return

        if failure.cause not in self._causes:
            log.warning("transaction_aborted", cause=failure.cause, error=str(failure))
        self._causes[failure.cause] = self._causes.get(failure.cause, 0) + 1
        self._tries += 1
        self._paused_until = now + self._pause()

        if self._causes[failure.cause] >= TRIES_TOGETHER and failure.blames_records:
            suspects = failure.partitions & set(group) or set(group)
            suspected = Isolated(error=str(failure), since=now)
            self.isolated = {**self.isolated, **dict.fromkeys(suspects, suspected)}
            self._causes[failure.cause] = 0
            self._tries = 0
            self._paused_until = now

    def succeeded(self, group: Collection[int]) -> None:
        """Note that the transaction of a group went through."""
        freed = [number for number in group if number in self.isolated]
        if freed:
            back = [number for number in freed if self.isolated[number].tries]
            self._forget(freed)
            if back:
                log.info("partition_publishes_again", partitions=back)
        else:
            if self._tries > 1:
                log.info("transactions_go_on", cause=", ".join(self._causes), failed=self._tries)
            self._causes.clear()
            self._tries = 0
            self._paused_until = 0.0

    def keep(self, ours: Container[int]) -> None:
        """Forget the partitions that are not ours any more."""
        if self.isolated:
            self._forget([number for number in self.isolated if number not in ours])

    def _forget(self, partitions: Collection[int]) -> None:
        if partitions:
            self.isolated = {
                number: one for number, one in self.isolated.items() if number not in partitions
            }

    def _failed_alone(self, number: int, failure: TransactionFailed, now: float) -> None:
        before = self.isolated[number]
        if not failure.blames_records:
            # The broker or the group was the reason: that says nothing of the partition.
            self._change(number, replace(before, again_at=now + _FIRST_PAUSE))
            return
        if not before.tries:
            log.error(
                "partition_isolated", partition=number, error=str(failure), doing="the others go on"
            )
        wait = min(_LONGEST_WAIT_ALONE, _FIRST_WAIT_ALONE * 2.0**before.tries)
        self._change(
            number,
            replace(before, error=str(failure), tries=before.tries + 1, again_at=now + wait),
        )

    def _change(self, number: int, isolated: Isolated) -> None:
        self.isolated = {**self.isolated, number: isolated}

    def _pause(self) -> float:
        if self._tries < 2:
            return 0.0
        return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** (self._tries - 2))
