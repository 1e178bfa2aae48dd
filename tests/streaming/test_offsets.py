"""What a tool asks of the broker has an end."""

from concurrent.futures import Future

import pytest

from workers.streaming.offsets import answer_of
from workers.streaming.topics import BrokerUnreachable


def test_an_answer_that_never_comes_ends_a_tool() -> None:
    never: Future[int] = Future()
    with pytest.raises(BrokerUnreachable, match=r"Kafka gave no answer within 0\.01 s"):
        answer_of(never, seconds=0.01)


def test_an_answer_is_handed_on_and_an_error_raised() -> None:
    answered: Future[int] = Future()
    answered.set_result(7)
    assert answer_of(answered) == 7
    failed: Future[int] = Future()
    failed.set_exception(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        answer_of(failed)
