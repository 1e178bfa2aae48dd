"""Requests for home feeds of real posts, and the order in which several producers would send their
events.

Everything is drawn at random from one seed. Only the requests in flight are kept in memory.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

from onnx_models.posts import Post

COMMUNITIES = 6
"""Communities of one home feed. It has more if these have too few posts."""
IN_FLIGHT = 8
"""Requests whose events are interleaved."""
USERS = 1000
FIRST_REQUEST_MS = 1_735_689_600_000
"""2025-01-01. `trimtab produce` replaces it by the current time."""
BETWEEN_REQUESTS_MS = 10


@dataclass(frozen=True, slots=True)
class Request:
    """One request: whose feed, when (ms since the epoch), and the posts to choose from."""

    request_id: str
    user_id: str
    requested_at: int
    posts: tuple[Post, ...]

    def events(self, batch: int) -> Iterator["Event"]:
        """The events of the request, with `batch` candidates each. The last may have fewer."""
        for start in range(0, len(self.posts), batch):
            yield Event(self, self.posts[start : start + batch])


@dataclass(frozen=True, slots=True)
class Event:
    """Some of a request's candidates."""

    request: Request
    posts: tuple[Post, ...]


class Communities:
    """Posts by community, from which home feeds are drawn. If posts share an id, the first counts.

    `size` is the number of posts.
    """

    def __init__(self, posts: Iterable[Post]) -> None:
        seen: set[str] = set()
        self._posts: dict[str, list[Post]] = {}
        for post in posts:
            if post.item_id not in seen:
                seen.add(post.item_id)
                self._posts.setdefault(post.community, []).append(post)
        self.size = len(seen)

    def draw(self, random: Random, candidates: int) -> tuple[Post, ...]:
        """Different posts of COMMUNITIES communities, or of more if these have too few posts.

        Raises ValueError if `candidates` is more than `size`.
        """
        pool: list[Post] = []
        shuffled = random.sample(list(self._posts), len(self._posts))
        for number, name in enumerate(shuffled):
            if number >= COMMUNITIES and len(pool) >= candidates:
                break
            pool += self._posts[name]
        return tuple(random.sample(pool, candidates))


def requests(communities: Communities, count: int, candidates: int, seed: int) -> Iterator[Request]:
    """`count` requests of `candidates` posts each, in the order of their times."""
    random = Random(seed)
    for number in range(count):
        yield Request(
            request_id=f"request-{seed}-{number:06d}",
            user_id=f"user-{random.randrange(USERS):04d}",
            requested_at=FIRST_REQUEST_MS + number * BETWEEN_REQUESTS_MS,
            posts=communities.draw(random, candidates),
        )


def interleaved(new_requests: Iterable[Request], batch: int, seed: int) -> Iterator[Event]:
    """The events of requests, interleaved among IN_FLIGHT requests at a time. The events of each
    request keep their order.
    """
    random = Random(seed)
    waiting = (request.events(batch) for request in new_requests)
    in_flight = list(islice(waiting, IN_FLIGHT))
    while in_flight:
        index = random.randrange(len(in_flight))
        event = next(in_flight[index], None)
        if event is not None:
            yield event
            continue

        # The request is finished. The next one takes its place, if there is one.
        in_flight[index : index + 1] = islice(waiting, 1)
