"""Partitions of which nothing comes although there is more to read."""

from collections.abc import Iterable, Mapping

from workers.streaming.partition import Partition

SILENT_SECONDS = 30.0
"""How long nothing may come of a partition that is not read to its end."""


class Silence:
    """Finds the partitions of which nothing comes although there is more to read.

    Of some damage the client says nothing: it asks for the same records again and again. An
    upstream transaction that is not decided is something else: there the client says that it is at
    the end.
    """

    def __init__(self) -> None:
        self._heard: dict[int, tuple[int, float]] = {}

    def look(
        self,
        partitions: Iterable[Partition],
        ends: Mapping[int, int],
        now: float,
        *,
        is_reachable: bool,
    ) -> list[Partition]:
        """The partitions that have been silent for too long; `now` in monotonic seconds.

        `ends` are the high watermarks. Nothing is silent while the broker does not answer, or
        denies something.
        """
        silent = []
        heard: dict[int, tuple[int, float]] = {}
        for partition in partitions:
            number, place = partition.number, partition.assembler.next
            has_more = ends.get(number, 0) > place
            is_read = not (partition.is_at_end or partition.is_paused or partition.unreadable)
            if not (is_reachable and is_read and has_more):
                continue
            before, since = self._heard.get(number, (place, now))
            if before != place:
                since = now
            heard[number] = place, since
            if now - since >= SILENT_SECONDS:
                silent.append(partition)
        self._heard = heard
        return silent
