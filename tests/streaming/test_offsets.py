"""Requests for offsets that are not answered, the search for the end of a batch, and what stays of a
pointer if a partition goes on at the earliest offset.
"""

import uuid
from concurrent.futures import Future
from contextlib import closing

import pytest
from confluent_kafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from workers.codec.pointer import Pointer, read_pointer, write_pointer
from workers.streaming.clients import Cluster
from workers.streaming.log_reader import answer_of
from workers.streaming.offsets import Moved, first_other, resume_from_earliest
from workers.streaming.topics import BrokerUnreachable, TopicPlan, create_topics


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


RANKING = Pointer(scan=4, time=1000, next=9, rules="0123456789ab")
JOIN = Pointer(scan=4, time=1000, next=9, out=(2000, 7))


@pytest.mark.parametrize(("pointer", "kept"), [(None, None), (RANKING, None), (JOIN, JOIN)])
def test_going_on_at_the_earliest_offset_keeps_the_pointer_of_the_join_and_no_other(
    kafka: str, pointer: Pointer | None, kept: Pointer | None
) -> None:
    name = f"resume-{uuid.uuid4().hex[:8]}"
    cluster = Cluster(kafka)
    create_topics(kafka, [TopicPlan(name, 1)])
    with closing(cluster.reader(name)) as consumer:
        before = TopicPartition(name, 0, 5)
        if pointer is not None:
            before = TopicPartition(name, 0, 5, write_pointer(pointer))
        consumer.commit(offsets=[before], asynchronous=False)
        moved = resume_from_earliest(cluster, group=name, topic=name, partition=0)
        (after,) = consumer.committed([TopicPartition(name, 0)], 30)
    assert moved == Moved(before=5, after=0)
    assert (after.offset, read_pointer(after.metadata)) == (0, kept)
