"""What is sent: requests as events, and streams of them that keep coming.

- `make_request`: the events of one request as dicts, which a test can change.
- `RequestStream`: a thread that keeps sending such requests, for tests that break something.
- `Load`: events as bytes, made quickly enough to measure a worker with.
- `send_steadily`: sends a load at a steady rate; runs in a process of its own.
"""

import json
import random
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tests.rig.background import Signals
from tests.rig.streams import Stream
from tests.scoring.building import FEATURES
from workers.codec.formats import Format
from workers.codec.generated.candidate_pb2 import CandidateEvent
from workers.streaming.clients import Cluster
from workers.streaming.records import Headers
from workers.streaming.send import Sender

JSON: Headers = [("content-type", b"application/json")]
_POOL_ROWS = 4096


def now_ms() -> int:
    """The time in ms since the epoch."""
    return time.time_ns() // 1_000_000


def send_json(sender: Sender, event: Mapping[str, Any]) -> None:
    """Send one event as JSON, its key the request id."""
    sender.send(str(event["request_id"]).encode(), json.dumps(event).encode(), JSON)


def in_protobuf(event: Mapping[str, Any]) -> bytes:
    """An event as Protobuf. Its candidates have features."""
    message = CandidateEvent(
        request_id=event["request_id"],
        surface=event["surface"],
        user_id=event["user_id"],
        requested_at=event["requested_at"],
        expected=event["expected"],
    )
    for item in event["candidates"]:
        features = struct.pack(f"<{len(item['features'])}f", *item["features"])
        message.candidates.add(
            item_id=item["item_id"], source=item["source"], features_f32=features
        )
    raw: bytes = message.SerializeToString()
    return raw


def make_candidate(request_id: str, number: int, draw: random.Random) -> dict[str, Any]:
    """One candidate of one of three sources, with random features."""
    features = [round(draw.gauss(0, 1), 5) for _ in FEATURES]
    return {"item_id": f"{request_id}-i{number}", "source": f"s{number % 3}", "features": features}


def make_request(
    request_id: str, items: int, draw: random.Random, batch: int = 1, **changes: Any
) -> list[dict[str, Any]]:
    """The events of one request that closes full, with up to `batch` candidates in each."""
    candidates = [make_candidate(request_id, number, draw) for number in range(items)]
    common = {
        "request_id": request_id,
        "surface": "home",
        "user_id": f"u{request_id}",
        "requested_at": now_ms(),
        "expected": items,
    }
    common |= changes
    return [common | {"candidates": candidates[i : i + batch]} for i in range(0, items, batch)]


def interleave(
    requests: Sequence[Sequence[dict[str, Any]]], draw: random.Random
) -> list[dict[str, Any]]:
    """The events of several requests as several producers would send them.

    The events of one request keep their order.
    """
    queues = [list(events) for events in requests]
    mixed = []
    while queues:
        queue = draw.choice(queues)
        mixed.append(queue.pop(0))
        if not queue:
            queues.remove(queue)
    return mixed


class RequestStream(Stream):
    """A thread that sends about 400 requests a second until the end of the `with` block.

    `sent` holds the events of each request by its id. Every eighth request is followed by an event
    that must be refused; `refused` counts those, and no two are equal.
    """

    def __init__(self, sender: Sender, seed: int) -> None:
        super().__init__("requests")
        self.sent: dict[str, list[dict[str, Any]]] = {}
        self.refused = 0
        self._sender = sender
        self._draw = random.Random(seed)

    def __len__(self) -> int:
        return len(self.sent)

    def _run(self) -> None:
        while not self._stopping.wait(0.02):
            first = len(self.sent)
            requests = [self._make_request(f"r{first + number}") for number in range(8)]
            for event in interleave(requests, self._draw):
                send_json(self._sender, event)
            self._sender.send(b"bad", f"bad {first}".encode(), [])
            self.refused += 1
        self._sender.finish()

    def _make_request(self, request_id: str) -> list[dict[str, Any]]:
        batch = self._draw.choice([1, 5])
        self.sent[request_id] = make_request(request_id, 10, self._draw, batch=batch)
        return self.sent[request_id]


class Message(NamedTuple):
    """A record to send. Its key is the request id."""

    key: bytes
    value: bytes


class Load:
    """Events of numbered requests, in one format, features by position. Equal for equal seeds, except
    times.

    `surfaces` get the requests in turn. The features come from a pool of rows: drawing 32 numbers
    costs more than a worker needs for a whole candidate, and no worker can notice.
    """

    def __init__(
        self,
        seed: int,
        candidates: int,
        surfaces: Sequence[str] = ("home",),
        wire: Format = Format.JSON,
    ) -> None:
        self.candidates = candidates
        self.wire = wire
        self.headers: Headers = [("content-type", wire.content_type)]
        self._draw = random.Random(seed)
        self._surfaces = surfaces
        self._rows = [self._make_row() for _ in range(_POOL_ROWS)]
        self._pool = [_encode_row(row, wire) for row in self._rows]

    def _make_row(self) -> list[float]:
        return [round(self._draw.gauss(0, 1), 5) for _ in FEATURES]

    @staticmethod
    def row(request: int, place: int) -> int:
        """The number of the row of features that a candidate has."""
        return (request * 31 + place * 7) % _POOL_ROWS

    def rows(self) -> list[list[float]]:
        """Every row of features, by its number."""
        return self._rows

    def event(
        self, request: int, places: Iterable[int], requested_at: int, expected: int
    ) -> Message:
        """The event with the candidates at some places of a request."""
        request_id = f"request-{request:06d}"
        surface = self._surfaces[request % len(self._surfaces)]
        user_id = f"user-{request % 5000}"
        if self.wire is Format.PROTOBUF:
            # Messages that follow each other are one message, with the candidates of all.
            head = CandidateEvent(
                request_id=request_id,
                surface=surface,
                user_id=user_id,
                requested_at=requested_at,
                expected=expected,
            )
            candidates = b"".join(self._in_protobuf(request, place) for place in places)
            return Message(request_id.encode(), head.SerializeToString() + candidates)

        candidates = b",".join(self._in_json(request, place) for place in places)
        value = (
            b'{"request_id":"%b","surface":"%b","user_id":"%b",'
            b'"requested_at":%d,"expected":%d,"candidates":[%b]}'
        ) % (
            request_id.encode(),
            surface.encode(),
            user_id.encode(),
            requested_at,
            expected,
            candidates,
        )
        return Message(request_id.encode(), value)

    def message(self, request: int, place: int, requested_at: int, expected: int) -> Message:
        """The event with one candidate."""
        return self.event(request, [place], requested_at, expected)

    def _in_json(self, request: int, place: int) -> bytes:
        return b'{"item_id":"item-%06d-%02d","source":"source-%d","features":%b}' % (
            request,
            place,
            place % 8,
            self._pool[self.row(request, place)],
        )

    def _in_protobuf(self, request: int, place: int) -> bytes:
        event = CandidateEvent()
        event.candidates.add(
            item_id=f"item-{request:06d}-{place:02d}",
            source=f"source-{place % 8}",
            features_f32=self._pool[self.row(request, place)],
        )
        raw: bytes = event.SerializeToString()
        return raw

    def interleaved(
        self,
        requests: int,
        requested_at: int,
        open_at_once: int = 64,
        missing: int = 0,
        batch: int = 1,
    ) -> Iterator[Message]:
        """Events of up to `batch` candidates each, as `open_at_once` producers send them at the same
        time.

        Each request announces `missing` candidates more than come.
        """
        expected = self.candidates + missing
        begun = min(open_at_once, requests)
        running = [[request, 0] for request in range(begun)]  # request, next place
        while running:
            at = self._draw.randrange(len(running))
            request, place = running[at]
            next_place = min(place + batch, self.candidates)
            yield self.event(request, range(place, next_place), requested_at, expected)

            running[at][1] = next_place
            if next_place < self.candidates:
                continue
            if begun < requests:
                running[at] = [begun, 0]
                begun += 1
            else:
                running[at] = running[-1]
                running.pop()


def _encode_row(row: Sequence[float], wire: Format) -> bytes:
    if wire is Format.PROTOBUF:
        return struct.pack(f"<{len(row)}f", *row)
    return json.dumps(row, separators=(",", ":")).encode()


class Pace(NamedTuple):
    """`rate` requests a second, each in `events` events; `requests` of them, or until stopped."""

    rate: float
    events: int
    requests: int | None = None


def send_steadily(
    signals: Signals,
    kafka: str,
    topic: str,
    load: Load,
    pace: Pace,
    clock: Callable[[], int] = time.time_ns,
) -> list[int]:
    """Send a load; for each request, the moment before its last event was sent, by `clock`."""
    sender = Sender.to(Cluster(kafka, {"linger.ms": "0"}), topic)
    sent: list[int] = []
    parts = [range(load.candidates)[part :: pace.events] for part in range(pace.events)]

    signals.ready.set()
    began = time.monotonic()
    while not signals.stopping.is_set() and len(sent) != pace.requests:
        due = began + len(sent) / pace.rate
        while (seconds := due - time.monotonic()) > 0:
            sender.producer.poll(seconds)

        requested_at = now_ms()
        for places in parts:
            key, value = load.event(len(sent), places, requested_at, load.candidates)
            last = clock()
            sender.send(key, value, load.headers)
        sent.append(last)
    sender.finish()
    return sent


def request_number(key: bytes | None) -> int:
    """The number of the request of a load that a key names."""
    return int((key or b"").rpartition(b"-")[2])
