"""What the users stage asks of Redis is counted, use by use."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from workers.commands.users_parts import CountedEditors
from workers.errors import Failure
from workers.steering.editor import RedisUnreachable


def editors_of(calls: int, error: Exception | None = None) -> CountedEditors:
    """Editors that make so many round trips, or cannot be opened."""

    @contextmanager
    def opened() -> Iterator[Any]:
        if error is not None:
            raise error
        yield SimpleNamespace(calls=calls)

    return CountedEditors(SimpleNamespace(open=opened))  # type: ignore[arg-type]


def test_round_trips_of_all_editors_are_added_up() -> None:
    editors = editors_of(calls=3)
    for _ in range(2):
        with editors.open():
            pass
    assert editors.use == (6, 0)


def test_a_redis_that_does_not_answer_is_a_failure() -> None:
    editors = editors_of(calls=0, error=RedisUnreachable("away"))
    with pytest.raises(RedisUnreachable), editors.open():
        pass
    assert editors.use == (0, 1)


def test_a_redis_that_is_lost_on_the_way_is_one_and_its_calls_count() -> None:
    editors = editors_of(calls=2)
    with pytest.raises(RedisUnreachable), editors.open():
        raise RedisUnreachable("lost")
    assert editors.use == (2, 1)


def test_what_else_goes_wrong_is_no_failure_of_redis() -> None:
    editors = editors_of(calls=2)
    with pytest.raises(Failure), editors.open():
        raise Failure("a plan that is refused")
    assert editors.use == (2, 0)
