"""What the users stage publishes, in JSON: `user-outcomes`.

A record is either sums (`kind` is `sums`) or the progress of a partition (`kind` is `progress`).
The key is JSON as well. It names no partition, because the records of a partition of
`request-outcomes` go to the partition with the same number.
"""

import msgspec
from msgspec import Struct

from workers.outcomes.records import HOUR_MS
from workers.outcomes.user_sums import PartitionUserSums, UserProgress, UserSums, UserSumsKey

USER_OUTCOMES_HEADERS = [("content-type", b"application/json")]


class _Key(Struct, gc=False, omit_defaults=True):
    hour: int
    surface: str
    arm: str
    experiment: str | None = None


class _Sums(Struct, gc=False, omit_defaults=True, tag_field="kind", tag="sums"):
    hour: int
    surface: str
    arm: str
    partition: int
    feeds: int
    seen: int
    takes: int
    users: int
    new_users: int
    misassigned: int
    unchecked: int
    last_offset: int
    experiment: str | None = None


class _Progress(Struct, gc=False, tag_field="kind", tag="progress"):
    partition: int
    next_offset: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Sums | _Progress).decode

PROGRESS_KEY = b'{"kind":"progress"}'
"""The key of a progress record. There is one for each partition."""


def encode_user_sums_key(key: UserSumsKey) -> bytes:
    """The key of a record of sums. The same key has the same bytes."""
    return _encode(
        _Key(hour=key.hour * HOUR_MS, surface=key.surface, arm=key.arm, experiment=key.experiment)
    )


def encode_user_sums(key: UserSumsKey, partition: int, sums: UserSums) -> bytes:
    """A record of sums."""
    return _encode(
        _Sums(
            hour=key.hour * HOUR_MS,
            surface=key.surface,
            arm=key.arm,
            experiment=key.experiment,
            partition=partition,
            feeds=sums.feeds,
            seen=sums.seen,
            takes=sums.takes,
            users=sums.users,
            new_users=sums.new_users,
            misassigned=sums.misassigned,
            unchecked=sums.unchecked,
            last_offset=sums.last_offset,
        )
    )


def encode_user_progress(progress: UserProgress) -> bytes:
    """A progress record."""
    return _encode(_Progress(partition=progress.partition, next_offset=progress.next_offset))


def decode_user_outcomes(value: bytes | None) -> PartitionUserSums | UserProgress:
    """Read a record of `user-outcomes`. Raises ValueError if it is not one."""
    wire = _decode(value or b"")
    if isinstance(wire, _Progress):
        return UserProgress(wire.partition, wire.next_offset)
    key = UserSumsKey(
        hour=wire.hour // HOUR_MS,
        surface=wire.surface,
        arm=wire.arm,
        experiment=wire.experiment,
    )
    sums = UserSums(
        feeds=wire.feeds,
        seen=wire.seen,
        takes=wire.takes,
        users=wire.users,
        new_users=wire.new_users,
        misassigned=wire.misassigned,
        unchecked=wire.unchecked,
        last_offset=wire.last_offset,
    )
    return PartitionUserSums(key, wire.partition, sums)
