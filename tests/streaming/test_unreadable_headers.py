"""An event whose headers cannot be read on its way in: taken, or refused with a dead letter.
Messages are stand-ins.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.codec.wire import SURFACES, candidate, encoded, valid_event
from tests.streaming.standins import LIMITS, TOPICS
from workers.assembly.assembler import NO_TIME, Assembler, Mark
from workers.assembly.held import Budget
from workers.assembly.replay import PastLetter, Replay
from workers.codec.dead_letters import DeadLetter, read_dead_letter
from workers.codec.decoder import Decoder
from workers.codec.formats import Format, Headers
from workers.codec.generated.candidate_pb2 import Candidate, CandidateEvent
from workers.counts import Counts
from workers.streaming.clients import Cluster
from workers.streaming.dead_letters import DeadLetters
from workers.streaming.limits import OutputLimits
from workers.streaming.ranking_intake import RankingIntake
from workers.streaming.ranking_partition import RankingPartition
from workers.worker_errors import WorkerErrors

AT: int = valid_event()["requested_at"]
IN_JSON = encoded(valid_event())
IN_PROTOBUF: bytes = CandidateEvent(
    request_id="r-1",
    surface="home",
    user_id="u",
    requested_at=AT,
    candidates=[Candidate(item_id="x", features=[1, 2, 3])],
).SerializeToString()


@dataclass
class StandIn:
    """A message of the client. Unreadable headers raise as the client's do, and may not be read a
    second time.
    """

    value_: bytes | None
    headers_: Headers | None = None
    is_readable: bool = True
    offset_: int = 0
    key_: bytes | None = b"r-1"
    times_read: int = field(default=0, init=False)

    def headers(self) -> Headers | None:
        self.times_read += 1
        assert self.times_read == 1, "the client has cached a damaged list"
        if not self.is_readable:
            raise SystemError("returned a result with an exception set")
        return self.headers_

    def topic(self) -> str:
        return "candidates"

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return self.offset_

    def timestamp(self) -> tuple[int, int]:
        return 2, AT

    def key(self) -> bytes | None:
        return self.key_

    def value(self) -> bytes | None:
        return self.value_

    def error(self) -> None:
        return None


def unreadable(value: bytes | None, **changes: Any) -> StandIn:
    return StandIn(value, is_readable=False, **changes)


class Taken:
    """What became of some messages in one partition, read from its start."""

    def __init__(
        self,
        messages: Sequence[StandIn],
        default: Format = Format.JSON,
        replay: Replay | None = None,
    ) -> None:
        self.counts = Counts()
        until = 0 if replay is None else replay.until
        self.partition = RankingPartition(3, Assembler(Mark(0, 0, NO_TIME, until)), replay)
        limits = OutputLimits(Cluster("127.0.0.1:1"), TOPICS, LIMITS)
        intake = RankingIntake(
            Decoder(SURFACES, default),
            Budget(),
            self.counts,
            DeadLetters(TOPICS.candidates, TOPICS.dead_letters, limits),
            WorkerErrors(self.counts),
        )
        for message in messages:
            intake.take(self.partition, message, message.offset(), AT)
        self.partition.assembler.close_all()
        self.items = [request.item_ids for request in self.partition.assembler.take_closed()]

    @property
    def letters(self) -> list[DeadLetter | None]:
        return [read_dead_letter(out.key, out.value, out.headers) for out in self.partition.outbox]

    @property
    def letter(self) -> DeadLetter:
        (letter,) = self.letters
        assert letter is not None
        return letter


@pytest.mark.parametrize("default", Format)
@pytest.mark.parametrize(
    "value", [IN_JSON, b" \n" + IN_JSON, IN_PROTOBUF, b"\0\0\0\x01\x02" + IN_JSON]
)
def test_an_event_whose_headers_cannot_be_read_is_ranked_by_the_format_that_its_bytes_show(
    value: bytes, default: Format
) -> None:
    taken = Taken([unreadable(value)], default)
    assert taken.items == [("x",)]
    assert taken.letters == []
    assert taken.counts.unreadable_headers == 1


def test_a_replay_judges_an_event_with_unreadable_headers_as_the_first_time() -> None:
    messages = [unreadable(IN_PROTOBUF), unreadable(b"{", offset_=1)]
    again = [unreadable(message.value_, offset_=message.offset_) for message in messages]
    first, replayed = Taken(messages), Taken(again, replay=Replay(until=2))
    assert first.items == replayed.items == [("x",)]
    assert first.letter.reason == "malformed"
    assert replayed.letters == [], "it went out with the commit that moved past it"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "null-value"),
        (b"", "malformed"),
        (b"{", "malformed"),
        (b"\xff", "malformed"),
        (b"\0", "malformed"),
    ],
)
def test_what_is_refused_with_unreadable_headers_is_a_letter_that_says_why_it_has_none(
    value: bytes | None, reason: str
) -> None:
    letter = Taken([unreadable(value, key_=b"\xff")]).letter
    assert (letter.reason, letter.key, letter.value, letter.headers) == (reason, b"\xff", value, [])
    assert letter.message.startswith(
        "headers: a name is not UTF-8, so this letter has none of the event's own; "
    )


def test_a_refused_candidate_of_an_event_with_unreadable_headers_costs_its_siblings_nothing() -> (
    None
):
    value = encoded(valid_event(candidates=[candidate("x"), candidate("y", features=[1.0])]))
    taken = Taken([unreadable(value)])
    assert taken.items == [("x",)]
    assert taken.letter.reason == "refused-candidates"
    assert taken.letter.headers == []

    # Under other rules a replay goes by the letter that is out.
    letter = PastLetter(True, taken.letter.message, True, b"r-1", len(value))
    replayed = Taken([unreadable(value)], replay=Replay(until=1, letters={0: [letter]}))
    assert replayed.items == [("x",)]
    assert replayed.letters == []


def test_unreadable_headers_are_counted_each_time_and_logged_once() -> None:
    with capture_logs() as logs:
        taken = Taken([unreadable(IN_JSON, offset_=number) for number in range(5)])
    assert taken.counts.unreadable_headers == 5
    assert [(entry["event"], entry["partition"], entry["offset"]) for entry in logs] == [
        ("headers_unreadable", 3, 0)
    ]


def test_headers_that_can_be_read_are_read_once_and_stand_on_a_dead_letter() -> None:
    own: Headers = [("content-type", b"application/json"), ("", b"\xff"), ("trace", None)]
    taken = Taken([StandIn(b"{", own)])
    assert taken.letter.headers == own
    assert not taken.letter.message.startswith("headers")
    assert taken.counts.unreadable_headers == 0
