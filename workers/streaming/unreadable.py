"""Records that the client cannot read: a batch that cannot be decompressed, that is damaged, or of
an unknown format.

The client repeats such an error, twice a second or as fast as it can, and goes no further. So its
partition is not read meanwhile: it stands still, and the others go on. It is looked at again now
and then, since another replica may have the records whole.
"""

from dataclasses import dataclass

from confluent_kafka import KafkaError

_CODES = frozenset(
    {
        KafkaError._BAD_COMPRESSION,
        KafkaError._BAD_MSG,  # also a checksum that does not fit, if `check.crcs` is on
        KafkaError._NOT_IMPLEMENTED,
        KafkaError._UNDERFLOW,
        KafkaError.INVALID_MSG,  # the broker found it out
    }
)


def is_unreadable(error: KafkaError) -> bool:
    """Whether an error of a consumer says that it cannot read what stands at its position."""
    return error.code() in _CODES


@dataclass(frozen=True)
class Unreadable:
    """Where a partition stands still. `since` and `again_at` in monotonic seconds; `again_at` is
    infinite while it is looked at again.
    """

    offset: int
    why: str
    since: float
    again_at: float
