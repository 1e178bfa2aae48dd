"""Requests for offsets that are not answered, and the search for the end of a batch."""

from concurrent.futures import Future

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.streaming.log_reader import answer_of
from workers.streaming.offsets import first_other
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


@given(
    st.integers(0, 50), st.integers(1, 5000), st.integers(0, 5000), st.integers(0, 40), st.data()
)
def test_the_end_of_a_batch_is_found_in_few_steps(
    before: int, size: int, gap: int, after: int, data: st.DataObject
) -> None:
    """Another batch that cannot be read may come soon after: what is between them is not skipped."""
    first, end = before, before + size
    latest = end + gap + after
    offset = data.draw(st.integers(first, end - 1))
    tried: list[int] = []

    def is_of_it(place: int) -> bool:
        assert offset < place < latest
        tried.append(place)
        return place < end

    assert first_other(is_of_it, offset, latest) == end
    assert len(tried) <= 2 * size.bit_length() + 2
