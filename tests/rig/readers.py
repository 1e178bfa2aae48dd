"""Simulated readers: they see published feeds, and write interactions about them.

What a reader does with a feed depends on the seed and the request id alone. When it does so depends
on the machine. Beside what a product would send, readers do everything that a join must refuse or
ignore. A fault that a decoder must see is named in a header of the record, because the oracle of
outcomes begins behind the decoder.
"""

import heapq
import json
import random
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tests.rig.streams import Stream
from tests.rig.topics import RecordReader
from tests.rig.traffic import JSON, now_ms
from workers.codec.generated.interaction_pb2 import Interaction as WireInteraction
from workers.streaming.clients import Cluster
from workers.streaming.records import Headers
from workers.streaming.send import Sender

EXPECTED_REASON = "test.expected-reason"
"""The header that names the reason for which a decoder must refuse a record."""

PROTOBUF: Headers = [("content-type", b"application/x-protobuf")]
_DWELLS = (None, 0.5, 1.0, 5.0, 29.9, 30, 31.5, 120.0)


class Deed(NamedTuple):
    """A record to write `after_s` seconds after the feed was seen. `partition` is None for the one
    that murmur2 gives.
    """

    after_s: float
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int | None = None


class Reader:
    """What one reader does with one feed of at least one item."""

    def __init__(self, feed: Mapping[str, Any], window_s: float, seed: int) -> None:
        self._feed = feed
        self._window_s = window_s
        self._draw = random.Random(f"{seed}:{feed['request_id']}")
        self._key = feed["request_id"].encode()
        self._item_ids = [item["item_id"] for item in feed["items"]]

    def deeds(self, partitions: int) -> Iterator[Deed]:
        """Everything, in the order in which it was drawn. `partitions` of the topic."""
        yield from self._sound()
        yield from self._at_the_end_of_the_window()
        yield from self._refused_by_the_join(partitions)
        yield from self._refused_by_the_decoder()

    def views(self) -> Iterator[Deed]:
        """A view of each item, and nothing else."""
        for item_id in self._item_ids:
            yield self._in_json(self._interaction("view", item_id=item_id))

    def _sound(self) -> Iterator[Deed]:
        """What a product sends, some of it twice or of kinds that no surface names."""
        for item_id in self._item_ids[: self._draw.randint(0, len(self._item_ids))]:
            view = self._deed(self._interaction("view", item_id=item_id))
            yield view
            if self._happens(0.1):
                yield view._replace(after_s=self._soon())
            if self._happens(0.4):
                value = self._draw.choice(_DWELLS)
                yield self._deed(self._interaction("dwell", item_id=item_id, value=value))
            for kind, chance in (("click", 0.2), ("hide", 0.1), ("share", 0.1)):
                if self._happens(chance):
                    yield self._deed(self._interaction(kind, item_id=item_id))

    def _at_the_end_of_the_window(self) -> Iterator[Deed]:
        """Around its end, where the log decides, and behind it."""
        if self._happens(0.4):
            border = self._window_s + self._draw.uniform(-0.3, 0.1)
            yield self._deed(self._interaction("view"))._replace(after_s=border)
        if self._happens(0.2):
            late = self._window_s + self._draw.uniform(0.2, 1.5)
            yield self._deed(self._interaction("dwell", value=60.0))._replace(after_s=late)

    def _refused_by_the_join(self, partitions: int) -> Iterator[Deed]:
        """Another user, another surface, an item that was not shown, a request that never was, and
        an interaction in any partition.
        """
        if self._happens(0.2):
            yield self._deed(self._interaction("view", user_id="somebody-else"))
        if self._happens(0.1):
            other = "list" if self._feed["surface"] == "home" else "home"
            yield self._deed(self._interaction("hide", surface=other))
        if self._happens(0.2):
            yield self._deed(self._interaction("click", item_id="not-in-the-feed"))
        if self._happens(0.1):
            request_id = f"{self._feed['request_id']}-never"
            deed = self._deed(self._interaction("click", request_id=request_id))
            yield deed._replace(key=request_id.encode())
        if self._happens(0.1):
            deed = self._deed(self._interaction("hide"))
            yield deed._replace(partition=self._draw.randrange(partitions))

    def _refused_by_the_decoder(self) -> Iterator[Deed]:
        """Now and then one record for each of its reasons."""
        view = self._in_json(self._interaction("view"))
        no_surface = self._in_json(self._interaction("view", surface="nowhere"))
        no_item = self._in_json(self._interaction("view", item_id=7))
        in_future = self._in_json(self._interaction("view", at=now_ms() + 600_000))
        faults = {
            "null-value": view._replace(value=None),
            "unknown-content-type": view._replace(headers=[("content-type", b"text/xml")]),
            "malformed": view._replace(value=b'{"request_id": '),
            "invalid-event": no_item,
            "unknown-surface": no_surface,
            "key-mismatch": view._replace(key=b"another"),
        }
        if self._feed["surface"] == "home":
            faults["future"] = in_future
        for reason, deed in faults.items():
            if self._happens(0.03):
                expected = (EXPECTED_REASON, reason.encode())
                yield deed._replace(after_s=self._soon(), headers=[*deed.headers, expected])

    def _interaction(self, kind: str, **changes: Any) -> dict[str, Any]:
        common = {
            "request_id": self._feed["request_id"],
            "surface": self._feed["surface"],
            "user_id": self._feed["user_id"],
            "item_id": self._draw.choice(self._item_ids),
            "kind": kind,
            "at": now_ms(),
        }
        return common | changes

    def _deed(self, values: Mapping[str, Any]) -> Deed:
        if self._happens(0.2):
            return Deed(self._soon(), self._key, in_protobuf(values), PROTOBUF)
        return self._in_json(values)

    def _in_json(self, values: Mapping[str, Any]) -> Deed:
        return Deed(self._soon(), self._key, json.dumps(values).encode(), JSON)

    def _soon(self) -> float:
        return self._draw.uniform(0.0, 0.6 * self._window_s)

    def _happens(self, chance: float) -> bool:
        return self._draw.random() < chance


def in_protobuf(values: Mapping[str, Any]) -> bytes:
    """An interaction as Protobuf."""
    raw: bytes = WireInteraction(**values).SerializeToString()
    return raw


class Readers(Stream):
    """A thread that reads feeds, and writes to the topic of interactions what readers do with them.

    `written` counts the records. `finish` waits until everything is written.
    """

    def __init__(
        self,
        kafka: str,
        *,
        feeds: str,
        interactions: str,
        partitions: int,
        window_s: float,
        seed: int,
    ) -> None:
        super().__init__("readers")
        self.written = 0
        self.seen = 0
        self._kafka = kafka
        self._feeds = feeds
        self._partitions = partitions
        self._window_s = window_s
        self._seed = seed
        self._sender = Sender.to(Cluster(kafka), interactions)
        self._due: list[tuple[float, int, Deed]] = []
        self._finishing = threading.Event()
        self._error: BaseException | None = None

    def finish(self) -> None:
        """Read the feeds to their end, do everything that is to be done, and return. Call it when
        all feeds are published.
        """
        self._finishing.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            with RecordReader(self._kafka, self._feeds) as reader:
                self._read_on(reader)
            self._sender.finish()
        except BaseException as error:
            self._error = error
            raise

    def _read_on(self, reader: RecordReader) -> None:
        while not self._stopping.is_set():
            record = reader.poll(0.02)
            if record is not None:
                self._see(json.loads(record.value() or b""))
            self._write_due()
            if record is None and self._finishing.is_set() and self._has_finished(reader):
                return

    def _has_finished(self, reader: RecordReader) -> bool:
        return not self._due and reader.has_reached(reader.ends())

    def _see(self, feed: Mapping[str, Any]) -> None:
        if not feed["items"]:
            return
        now = time.monotonic()
        for deed in Reader(feed, self._window_s, self._seed).deeds(self._partitions):
            self.seen += 1
            heapq.heappush(self._due, (now + deed.after_s, self.seen, deed))

    def _write_due(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            _, _, deed = heapq.heappop(self._due)
            self.written += 1
            if deed.partition is None:
                self._sender.send(deed.key, deed.value, deed.headers)
            else:
                self._sender.producer.produce(
                    self._sender.topic,
                    deed.value,
                    deed.key,
                    deed.partition,
                    headers=list(deed.headers),
                )
