"""Requests for home feeds of real posts, and the events in which several producers would send them.

Everything is drawn from one seed, and nothing is kept but the requests in flight.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

from onnx_models.posts import Post

COMMUNITIES = 6  # in one home feed; more where these have too few posts
IN_FLIGHT = 8  # requests whose events are interleaved
USERS = 1000
FIRST_REQUEST_MS = 1_735_689_600_000  # 2025-01-01; `trimtab produce` stamps the present time
BETWEEN_REQUESTS_MS = 10


@dataclass(frozen=True, slots=True)
class Request:
    """One request: whose feed, when (milliseconds since the epoch), and the posts it has to choose
    from.
    """

    request_id: str
    user_id: str
    requested_at: int
    posts: tuple[Post, ...]

    def events(self, batch: int) -> Iterator["Event"]:
        """The request in events of `batch` candidates; the last may have fewer."""
        for start in range(0, len(self.posts), batch):
            yield Event(self, self.posts[start : start + batch])


@dataclass(frozen=True, slots=True)
class Event:
    """Some of a request's candidates."""

    request: Request
    posts: tuple[Post, ...]


class Communities:
    """Posts by community, to draw home feeds from. Of posts that share an id the first counts."""

    def __init__(self, posts: Iterable[Post]) -> None:
        seen: set[str] = set()
        self._posts: dict[str, list[Post]] = {}
        for post in posts:
            if post.item_id not in seen:
                seen.add(post.item_id)
                self._posts.setdefault(post.community, []).append(post)
        self.size = len(seen)

    def draw(self, random: Random, candidates: int) -> tuple[Post, ...]:
        """Distinct posts of COMMUNITIES communities, or of as many as it takes. Raises ValueError
        past `size`.
        """
        pool: list[Post] = []
        for place, name in enumerate(random.sample(list(self._posts), len(self._posts))):
            if place >= COMMUNITIES and len(pool) >= candidates:
                break
            pool += self._posts[name]
        return tuple(random.sample(pool, candidates))


def requests(communities: Communities, count: int, candidates: int, seed: int) -> Iterator[Request]:
    """`count` requests of `candidates` posts each, in the order in which they are asked for."""
    random = Random(seed)
    for number in range(count):
        yield Request(
            request_id=f"request-{seed}-{number:06d}",
            user_id=f"user-{random.randrange(USERS):04d}",
            requested_at=FIRST_REQUEST_MS + number * BETWEEN_REQUESTS_MS,
            posts=communities.draw(random, candidates),
        )


def interleaved(asked: Iterable[Request], batch: int, seed: int) -> Iterator[Event]:
    """The requests' events, mixed among IN_FLIGHT requests; each request's own events keep their
    order.
    """
    random = Random(seed)
    waiting = (request.events(batch) for request in asked)
    in_flight = list(islice(waiting, IN_FLIGHT))
    while in_flight:
        place = random.randrange(len(in_flight))
        event = next(in_flight[place], None)
        if event is None:
            in_flight[place : place + 1] = islice(waiting, 1)
        else:
            yield event
