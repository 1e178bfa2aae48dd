"""Whether an idle partition is read to its end: the broker is asked, and nobody waits for its
answer.

The rules of closing by the idle clock:
- Only a partition on which a deadline has passed is asked about, and only one question for it is
  under way.
- The question is for the high watermark. Behind the last stable offset, which is the end that the
  consumer sees, an undecided transaction may hold further parts of an open request.
- The answer counts for what was due when the question was asked: a record may have been appended
  since.
- No answer, an error, or more to read: nothing closes, and the broker is asked again a while later.
"""

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from workers.streaming.log_reader import SECONDS, ask_latest_of
from workers.streaming.partition import Due, Partition

_MORE_SECONDS = 0.25
"""How long until the next question after there was more to read."""
_FAILED_SECONDS = 1.0
"""The same after an error or no answer."""
_SILENT_SECONDS = 2 * SECONDS
"""How long until a question counts as not answered. The client itself should say so after SECONDS.
"""


class _Question(NamedTuple):
    """One question. It holds its client: a client that is collected answers nothing any more."""

    admin: AdminClient
    due: Due
    asked: float
    latest: "Future[Any]"


class EndCheck:
    """Closes requests by the idle clock, once the broker has confirmed that nothing more is there
    to be read.
    """

    def __init__(self, new_admin: Callable[[], AdminClient], topic: str) -> None:
        self._new_admin = new_admin
        self._topic = topic
        self._admin: AdminClient | None = None
        self._questions: Mapping[Partition, _Question] = {}
        self._pauses: Mapping[Partition, float] = {}  # monotonic seconds at which each ends

    def close_idle(self, partitions: Collection[Partition], now: float) -> None:
        """Close what the answers allow that have come, and ask about what is due; `now` in
        monotonic seconds.

        Called once a step, with the partitions that are ours by now. It never waits.
        """
        if self._questions or self._pauses:
            self._take_answers(partitions, now)

        due = {}
        for partition in partitions:
            found = partition.due_at_end()
            if (
                found is not None
                and partition not in self._questions
                and partition not in self._pauses
            ):
                due[partition] = found
        if due:
            self._ask(due, now)

    def _take_answers(self, partitions: Collection[Partition], now: float) -> None:
        """Settle the questions that are answered or were to be; forget those about partitions that
        we have lost.
        """
        ours = set(partitions)
        pauses = {p: until for p, until in self._pauses.items() if p in ours and now < until}
        waiting = {}
        for partition, question in self._questions.items():
            if partition not in ours:
                continue
            if not question.latest.done() and now - question.asked < _SILENT_SECONDS:
                waiting[partition] = question
                continue
            latest = self._answer(question)
            if latest is None:
                pauses[partition] = now + _FAILED_SECONDS
            elif latest > question.due.end:
                pauses[partition] = now + _MORE_SECONDS
            else:
                partition.close_idle(question.due)
        self._questions = waiting
        self._pauses = pauses

    def _answer(self, question: _Question) -> int | None:
        """The high watermark. None if the broker did not say: what is asked next goes to a new
        client.
        """
        try:
            if question.latest.done():
                return int(question.latest.result().offset)
        except KafkaException:
            pass
        self._admin = None
        return None

    def _ask(self, due: Mapping[Partition, Due], now: float) -> None:
        places = {partition: TopicPartition(self._topic, partition.number) for partition in due}
        try:
            admin = self._admin = self._admin or self._new_admin()
            latest = ask_latest_of(admin, list(places.values()))
        except KafkaException:
            self._admin = None
            self._pauses = {**self._pauses, **dict.fromkeys(due, now + _FAILED_SECONDS)}
            return
        asked = {p: _Question(admin, found, now, latest[places[p]]) for p, found in due.items()}
        self._questions = {**self._questions, **asked}
