"""What the simulated readers like, and that the truth about an arm follows from it."""

import pytest

from demo.taste import HIDE_OTHER, HIDE_QUIET, SEEN, TAKE_OTHER, TAKE_TALKED_OF, Taste
from onnx_models.posts import Post
from tests.demo.building import EVEN, OTHER_WEIGHTS, ranked
from workers.ranking.feed import Feed, FeedItem
from workers.ranking.weights import Weights


def posts(count: int = 20) -> list[Post]:
    """Posts of one community: post 0 has no comment, post 1 has one, and so on."""
    return [Post("c", f"post-{n}", "title", "domain", 1, comments=n) for n in range(count)]


def feed(request_id: str, user_id: str, item_ids: list[str]) -> Feed:
    items = [FeedItem(item_id, 0.5, (0.5, 0.5)) for item_id in item_ids]
    return ranked(request_id)._replace(user_id=user_id, items=items)


def two_sided(user_id: str) -> Feed:
    """A feed of eleven posts. Quality ranks the one that is talked of last, engagement first."""
    items = [FeedItem(f"post-{n}", 0.5, (0.5, 0.5)) for n in range(SEEN)]
    items.append(FeedItem("post-19", 0.5, (0.0, 1.0)))
    return ranked("r")._replace(user_id=user_id, items=items)


def test_a_reader_sees_the_first_ten_and_takes_and_hides_only_these() -> None:
    taste = Taste(posts(), seed=1)
    item_ids = [f"post-{n}" for n in range(20)]
    for number in range(50):
        reactions = taste.react(feed(f"r{number}", "u", item_ids))
        assert list(reactions.seen) == item_ids[:SEEN]
        assert set(reactions.taken) <= set(reactions.seen)
        assert set(reactions.hidden) <= set(reactions.seen) - set(reactions.taken)


def test_the_same_feed_gets_the_same_reactions_and_another_seed_gives_others() -> None:
    feeds = [feed(f"r{n}", "u", [f"post-{m}" for m in range(10, 20)]) for n in range(20)]
    first = [Taste(posts(), seed=1).react(each) for each in feeds]
    assert [Taste(posts(), seed=1).react(each) for each in reversed(feeds)] == first[::-1]
    assert [Taste(posts(), seed=2).react(each) for each in feeds] != first


def test_a_fifth_of_a_community_is_talked_of_and_half_of_it_is_quiet() -> None:
    taste = Taste(posts(), seed=1)
    keenness = taste.take_probability("u", "post-0") / TAKE_OTHER
    likely = [n for n in range(20) if taste.take_probability("u", f"post-{n}") > keenness * 0.1]
    assert likely == [16, 17, 18, 19]
    assert taste.take_probability("u", "post-19") == pytest.approx(keenness * TAKE_TALKED_OF)
    quiet = [n for n in range(20) if taste.hide_probability(f"post-{n}") == HIDE_QUIET]
    assert quiet == list(range(10))
    assert taste.hide_probability("post-19") == HIDE_OTHER


def test_some_readers_are_keener_than_others_and_all_stay_as_they_are() -> None:
    taste = Taste(posts(), seed=1)
    rates = [taste.take_probability(f"u{n}", "post-0") / TAKE_OTHER for n in range(1_000)]
    assert 0.5 <= min(rates) < 0.6
    assert 1.4 < max(rates) <= 1.5
    assert taste.take_probability("u7", "post-0") / TAKE_OTHER == rates[7]


def test_the_true_take_rate_is_the_mean_probability_of_what_other_weights_would_show() -> None:
    taste = Taste(posts(), seed=1)
    feeds = [two_sided("u1"), two_sided("u2")]
    expected = 0.0
    for user in ("u1", "u2"):
        shown = ["post-19", *(f"post-{n}" for n in range(SEEN - 1))]
        expected += sum(taste.take_probability(user, item_id) for item_id in shown)

    to_engagement = Weights.of({"quality": 0.0, "engagement": 1.0})
    found = taste.true_take_rate(feeds, to_engagement)
    assert found == pytest.approx(expected / (2 * SEEN))
    to_quality = Weights.of({"quality": 1.0, "engagement": 0.0})
    assert taste.true_take_rate(feeds, to_quality) < found / 2


def test_readers_take_as_often_as_the_truth_says() -> None:
    taste = Taste(posts(), seed=1)
    item_ids = [f"post-{n}" for n in range(10, 20)]
    feeds = [feed(f"r{n}", f"u{n % 50}", item_ids) for n in range(2_000)]
    taken = sum(len(taste.react(each).taken) for each in feeds)
    assert taken / (len(feeds) * SEEN) == pytest.approx(taste.true_take_rate(feeds, EVEN), rel=0.05)
    assert taste.true_take_rate(feeds, EVEN) == taste.true_take_rate(feeds, OTHER_WEIGHTS)
