"""What the simulated readers of `--outcomes` like, and so what is true of each arm. Pure.

A reader looks at the first SEEN posts of a feed. Of these

- the reader takes a post with probability TAKE_TALKED_OF if its discussion is among the longest
  fifth of its community, with TAKE_OTHER otherwise. Both are multiplied by how keen the reader is:
  a number between 0.5 and 1.5 that stays the same.
- the reader hides a post that was not taken with probability HIDE_QUIET if its discussion is in the
  shorter half of its community, with HIDE_OTHER otherwise.

How long a discussion became is real data of each post, and no model sees it as a feature. Everything
random follows from the seed, the reader and the request. So the same feed gets the same reactions,
and the true take-rate of an arm can be computed.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from onnx_models.posts import Post
from workers.ranking.feed import Feed
from workers.ranking.rerank import rerank
from workers.ranking.weights import Weights

SEEN = 10
TAKE_TALKED_OF = 0.30
TAKE_OTHER = 0.02
HIDE_QUIET = 0.05
HIDE_OTHER = 0.01

_TALKED_OF = 0.8
_QUIET = 0.5
_LEAST_KEEN = 0.5
_KEENEST = 1.5


@dataclass(frozen=True)
class Reactions:
    """The item ids that a reader saw, took and hid in one feed, in the order of the feed."""

    seen: tuple[str, ...]
    taken: tuple[str, ...]
    hidden: tuple[str, ...]


class Taste:
    """What all readers like. If posts share an id, the first counts."""

    def __init__(self, posts: Iterable[Post], seed: int) -> None:
        self._seed = seed
        self._talk = _rank_by_comments(posts)
        self._keenness: dict[str, float] = {}

    def react(self, feed: Feed) -> Reactions:
        """What the feed's reader does with it."""
        random = Random(f"{self._seed} {feed.request_id}")
        seen = [item.item_id for item in feed.items[:SEEN]]
        taken: list[str] = []
        hidden: list[str] = []
        for item_id in seen:
            takes = random.random() < self.take_probability(feed.user_id, item_id)
            hides = random.random() < self.hide_probability(item_id)
            if takes:
                taken.append(item_id)
            elif hides:
                hidden.append(item_id)
        return Reactions(tuple(seen), tuple(taken), tuple(hidden))

    def take_probability(self, user_id: str, item_id: str) -> float:
        """How probable it is that this reader takes this post once it is seen."""
        probability = TAKE_TALKED_OF if self._talk[item_id] >= _TALKED_OF else TAKE_OTHER
        return probability * self._keenness_of(user_id)

    def hide_probability(self, item_id: str) -> float:
        """How probable it is that a reader hides this post if it is seen and not taken."""
        return HIDE_QUIET if self._talk[item_id] < _QUIET else HIDE_OTHER

    def true_take_rate(self, feeds: Sequence[Feed], weights: Weights) -> float:
        """The take-rate that is expected if all of these feeds were ranked under `weights`.

        The feeds are ranked again from the scores that they carry. There must be some.
        """
        expected = 0.0
        seen = 0
        for feed in feeds:
            for item in rerank(feed, weights).items[:SEEN]:
                expected += self.take_probability(feed.user_id, item.item_id)
                seen += 1
        return expected / seen

    def _keenness_of(self, user_id: str) -> float:
        keenness = self._keenness.get(user_id)
        if keenness is None:
            random = Random(f"{self._seed} {user_id}")
            keenness = self._keenness[user_id] = random.uniform(_LEAST_KEEN, _KEENEST)
        return keenness


def _rank_by_comments(posts: Iterable[Post]) -> Mapping[str, float]:
    """Item id to the post's rank in its community by its number of comments: 0 to less than 1."""
    first_posts: dict[str, Post] = {}
    for post in posts:
        first_posts.setdefault(post.item_id, post)
    by_community: defaultdict[str, list[Post]] = defaultdict(list)
    for post in first_posts.values():
        by_community[post.community].append(post)

    ranks: dict[str, float] = {}
    for community in by_community.values():
        community.sort(key=lambda post: (post.comments, post.item_id))
        for place, post in enumerate(community):
            ranks[post.item_id] = place / len(community)
    return ranks
