"""Records damaged on the broker's disk: a batch of the log is overwritten, and its checksum made to
fit, or not.
"""

import struct
from enum import Enum
from pathlib import Path

from workers.local import Stack

_LENGTH_AT = 8
_CRC_AT = 17
_ATTRIBUTES_AT = 21
_LAST_AT = 23
_RECORDS_AT = 61


class Damage(Enum):
    """What is done to a batch."""

    PAYLOAD = "its records are overwritten, compressed or not"
    CODEC = "its header names a compression that does not exist"
    CHECKSUM = "its checksum does not fit"


def damage(
    stack: Stack, topic: str, partition: int, offset: int, how: Damage = Damage.PAYLOAD
) -> range:
    """Damage the batch around an offset, for whoever reads it from now on. Return the offsets of the
    batch.
    """
    (log,) = (stack._folder / "kafka" / "data" / f"{topic}-{partition}").glob("*.log")
    return _damage(log, offset, how)


def _damage(log: Path, offset: int, how: Damage) -> range:
    data = bytearray(log.read_bytes())
    at = 0
    while at < len(data):
        (first,) = struct.unpack_from(">q", data, at)
        (length,) = struct.unpack_from(">i", data, at + _LENGTH_AT)
        (last_delta,) = struct.unpack_from(">i", data, at + _LAST_AT)
        end = at + 12 + length
        if first <= offset <= first + last_delta:
            if how is Damage.CODEC:
                data[at + _ATTRIBUTES_AT + 1] |= 0b111
            else:
                data[at + _RECORDS_AT : end] = bytes(
                    byte ^ 0x5A for byte in data[at + _RECORDS_AT : end]
                )
            crc = _crc32c(data[at + _ATTRIBUTES_AT : end]) ^ (how is Damage.CHECKSUM)
            struct.pack_into(">I", data, at + _CRC_AT, crc)
            with log.open("r+b") as file:  # in its place: the broker goes on writing behind it
                file.seek(at)
                file.write(data[at:end])
            return range(first, first + last_delta + 1)
        at = end
    raise AssertionError(f"{log}: no batch with offset {offset}")


def _crc32c(data: bytes | bytearray) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
