"""The workers that live, as Redis has them: for people and tools, not for workers."""

from dataclasses import dataclass
from typing import NamedTuple

from workers.errors import Failure
from workers.steering.connection import Denied, RedisLink
from workers.steering.keys import Keys
from workers.steering.status import StatusUnreadable, WorkerStatus, decode


@dataclass(frozen=True)
class LiveWorker:
    """A worker whose status has not expired. `status` is None where it does not read, and
    `unreadable` says why.

    `age_ms`: milliseconds by Redis's clock since the worker wrote it; None where it does not say
    when it expires.
    """

    worker: str
    status: WorkerStatus | None
    age_ms: int | None = None
    unreadable: str | None = None


class Live(NamedTuple):
    """The workers that have a status, and the ids of those that have none any more: they crashed,
    or are cut off.
    """

    workers: list[LiveWorker]
    silent: list[str]


def read_live(link: RedisLink, keys: Keys) -> Live:
    """Both by their ids, in two round trips. Raises RedisLost, and Failure if Redis denies the
    list.
    """
    (ids,) = link.ask(("ZRANGE", keys.live, 0, -1))
    if not isinstance(ids, list):
        raise Failure(
            f"{keys.live}: Redis answers {_answer(ids)!r}, expected the sorted set of the workers' ids"
        )
    workers = sorted(one.decode("utf-8", "replace") for one in ids)
    if not workers:
        return Live([], [])
    asked = [(command, keys.status(worker)) for worker in workers for command in ("GET", "PTTL")]
    replies = iter(link.ask(*asked))
    found = [(worker, next(replies), next(replies)) for worker in workers]
    return Live(
        workers=[_read(worker, text, ttl) for worker, text, ttl in found if text is not None],
        silent=[worker for worker, text, _ in found if text is None],
    )


def _read(worker: str, text: object, ttl: object) -> LiveWorker:
    if not isinstance(text, bytes):
        return LiveWorker(
            worker, None, unreadable=f"Redis answers {_answer(text)!r}, expected a string"
        )
    try:
        status = decode(text)
    except StatusUnreadable as unreadable:
        return LiveWorker(worker, None, unreadable=str(unreadable))
    age = max(0, status.expiry_ms - ttl) if isinstance(ttl, int) and ttl >= 0 else None
    return LiveWorker(worker, status, age)


def _answer(reply: object) -> object:
    return reply.message if isinstance(reply, Denied) else reply
