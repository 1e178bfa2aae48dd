"""A record on which our own code fails is one dead letter; a lack of memory is no record's fault."""

from typing import cast

import pytest

from tests.builders import HOME
from tests.streaming.standins import LIMITS, TOPICS, StandInCluster
from workers.assembly.assembler import NO_TIME, Assembler, Mark
from workers.assembly.held import Budget
from workers.codec.dead_letters import read_dead_letter
from workers.codec.decoder import Decoder
from workers.counts import Counts
from workers.ranking.request import Event
from workers.streaming.dead_letters import DeadLetters
from workers.streaming.limits import OutputLimits
from workers.streaming.ranking_intake import RankingIntake
from workers.streaming.ranking_partition import RankingPartition
from workers.streaming.records import Fetched
from workers.worker_errors import WorkerErrors


class Message:
    """One record as a consumer gets it."""

    def topic(self) -> str:
        return "candidates"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 7

    def timestamp(self) -> tuple[int, int]:
        return 2, 1000

    def key(self) -> bytes:
        return b"r"

    def value(self) -> bytes:
        return b"{}"

    def headers(self) -> list[tuple[str, bytes | None]]:
        return [("trace", b"t")]

    def error(self) -> None:
        return None


class FailingDecoder(Decoder):
    """Fails as no decoder should."""

    def __init__(self, error: Exception) -> None:
        super().__init__({"home": HOME})
        self._error = error

    def decode(self, *_: object) -> Event:
        raise self._error


def intake_of(error: Exception) -> RankingIntake:
    limits = OutputLimits(StandInCluster("127.0.0.1:1"), TOPICS, LIMITS)
    counts = Counts()
    dead_letters = DeadLetters(TOPICS.candidates, TOPICS.dead_letters, limits)
    return RankingIntake(
        FailingDecoder(error), Budget(), counts, dead_letters, WorkerErrors(counts)
    )


def test_a_record_that_the_decoder_fails_on_is_a_dead_letter_with_its_bytes() -> None:
    partition = RankingPartition(0, Assembler(Mark(7, 0, NO_TIME, 7)))
    intake = intake_of(SystemError("returned a result with an exception set"))
    intake.take(partition, cast(Fetched, Message()), 7, 1000)
    (output,) = partition.outbox
    letter = read_dead_letter(output.key, output.value, output.headers)
    assert letter is not None
    assert (letter.reason, letter.key, letter.value, letter.headers) == (
        "worker-error",
        b"r",
        b"{}",
        [("trace", b"t")],
    )
    assert "SystemError" in letter.message
    assert intake.counts.worker_errors == 1
    assert partition.assembler.next == 8


def test_a_lack_of_memory_is_not_held_against_a_record() -> None:
    partition = RankingPartition(0, Assembler(Mark(7, 0, NO_TIME, 7)))
    with pytest.raises(MemoryError):
        intake_of(MemoryError()).take(partition, cast(Fetched, Message()), 7, 1000)
    assert partition.outbox == []
