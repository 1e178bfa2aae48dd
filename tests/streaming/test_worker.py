"""The loop itself, where what it is made of is a stand-in."""

from types import SimpleNamespace
from typing import Any, cast

from workers.streaming.watchdog import Pulse
from workers.streaming.worker import Parts, Worker


class Batches:
    """A consumer whose queue is filled up as fast as it is emptied."""

    def __init__(self, count: int) -> None:
        self.left = count

    def poll(self, _seconds: float) -> object:
        return self._message

    def consume(self, _most: int, _seconds: float) -> list[object]:
        self.left -= 1
        return [self._message] if self.left > 0 else []

    _message = SimpleNamespace(partition=lambda: 0, error=lambda: None)


def test_a_backlog_of_large_events_is_no_hanging_loop_every_batch_of_it_is_a_turn() -> None:
    turns: list[int] = []
    pulse = Pulse()
    nothing_owned: dict[int, Any] = {}
    parts = SimpleNamespace(
        consumer=Batches(10),
        ownership=SimpleNamespace(partitions=nothing_owned, restoring=False),
        outlet=SimpleNamespace(has_room=lambda _: True),
        reach=SimpleNamespace(heard=lambda: turns.append(pulse.turns)),
        pulse=pulse,
    )
    Worker(cast(Parts, parts))._consume()
    assert turns == list(range(1, 11))
