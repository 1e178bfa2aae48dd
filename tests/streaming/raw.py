"""A record as bytes on the wire: what a producer in another language may write, and this client's
own refuses.

The client takes header names as text only. This writes a Produce request by hand: one record in one
batch, to the leader of its partition.
"""

import socket
import struct
import time
from collections.abc import Sequence

from confluent_kafka.admin import AdminClient

RawHeaders = Sequence[tuple[bytes, bytes | None]]

_PRODUCE = 0
_VERSION = 7
_ALL_REPLICAS = -1
_CASTAGNOLI = 0x82F63B78


def send_raw(
    kafka: str,
    topic: str,
    partition: int,
    key: bytes | None,
    value: bytes | None,
    headers: RawHeaders,
) -> int:
    """Write one record, whose header names may be any bytes. Return its offset."""
    batch = _batch(_record(key, value, headers))
    request = b"".join(
        (
            struct.pack(">hhi", _PRODUCE, _VERSION, 1),
            _text("raw"),
            struct.pack(">hhi", -1, _ALL_REPLICAS, 30_000),
            struct.pack(">i", 1),
            _text(topic),
            struct.pack(">ii", 1, partition),
            struct.pack(">i", len(batch)),
            batch,
        )
    )
    with socket.create_connection(_leader(kafka, topic, partition), timeout=30) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        answer = _read(connection, *struct.unpack(">i", _read(connection, 4)))

    # The correlation id, the count of topics, the topic's name, the count of partitions, then the
    # one partition.
    place = 4 + 4 + len(_text(topic)) + 4
    got, error, offset = struct.unpack_from(">ihq", answer, place)
    assert (got, error) == (partition, 0), f"partition {got}: error {error}"
    return int(offset)


def _leader(kafka: str, topic: str, partition: int) -> tuple[str, int]:
    metadata = AdminClient({"bootstrap.servers": kafka}).list_topics(topic, timeout=30)
    broker = metadata.brokers[metadata.topics[topic].partitions[partition].leader]
    return str(broker.host), broker.port


def _batch(record: bytes) -> bytes:
    """A batch of format 2, without compression, producer or transaction."""
    now = time.time_ns() // 1_000_000
    checked = struct.pack(">hiqqqhii", 0, 0, now, now, -1, -1, -1, 1) + record
    framed = struct.pack(">ibI", -1, 2, _crc32c(checked)) + checked
    return struct.pack(">qi", 0, len(framed)) + framed


def _record(key: bytes | None, value: bytes | None, headers: RawHeaders) -> bytes:
    body = b"\0" + _varint(0) + _varint(0) + _sized(key) + _sized(value) + _varint(len(headers))
    for name, text in headers:
        body += _sized(name) + _sized(text)
    return _varint(len(body)) + body


def _sized(data: bytes | None) -> bytes:
    return _varint(-1) if data is None else _varint(len(data)) + data


def _varint(number: int) -> bytes:
    left = (number << 1) ^ (number >> 31)
    out = bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


def _text(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def _crc32c(data: bytes) -> int:
    checksum = 0xFFFFFFFF
    for byte in data:
        checksum ^= byte
        for _ in range(8):
            checksum = checksum >> 1 ^ (_CASTAGNOLI if checksum & 1 else 0)
    return checksum ^ 0xFFFFFFFF


def _read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        assert more, f"the broker closed the connection after {len(data)} of {count} bytes"
        data += more
    return data
