"""The feature set `posts`: what a producer sends of a post to have it ranked.

Every number is known when the post is shown for the first time: its title, its host, the length of
its text, when it was made. None comes from votes or comments, from what moderators or the author
did later, or from other posts of its community, so it can be computed for a community that training
never saw. Values are rounded to four decimals: the same number on every machine, short in JSON, and
one float32 whichever format carries it.
"""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from onnx_models import words
from onnx_models.posts import Post

WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
DASH = re.compile("\\s-\\s|[\u2013\u2014]")
QUOTE = re.compile('["\u201c\u201d]')
TURN = 2 * math.pi


@dataclass(frozen=True, slots=True)
class Reading:
    """A post, read once for all its features. `words` are lower case, with straight apostrophes."""

    post: Post
    title: str
    words: tuple[str, ...]
    hosts: frozenset[str]  # the host and every domain above it
    made: datetime

    def count(self, words_of_class: frozenset[str]) -> float:
        """How many of the title's words are of a class."""
        return sum(word in words_of_class for word in self.words)

    def share(self, words_of_class: frozenset[str]) -> float:
        """The same as a share of the title's words; 0 where it has none."""
        return self.count(words_of_class) / max(1, len(self.words))

    def hour(self) -> float:
        """Hours since midnight UTC, as an angle: 23:59 and 0:00 are neighbours."""
        return TURN * (self.made.hour + self.made.minute / 60) / 24

    def weekday(self) -> float:
        """Days since Monday, as an angle."""
        return TURN * self.made.weekday() / 7


@dataclass(frozen=True)
class Feature:
    """One number: its name, what it means, its bounds, and the default where a producer does not
    send it.
    """

    name: str
    meaning: str
    low: float
    high: float
    default: float
    of: Callable[[Reading], float]

    def value(self, reading: Reading) -> float:
        """The number for a post: within the bounds, four decimals, zero without a sign."""
        return round(min(self.high, max(self.low, float(self.of(reading)))), 4) + 0.0


def _class_count(name: str, meaning: str, of_class: frozenset[str]) -> Feature:
    return Feature(
        name, f"words of the title that {meaning}", 0, 8, 0, lambda reading: reading.count(of_class)
    )


def _flag(name: str, meaning: str, of: Callable[[Reading], bool]) -> Feature:
    return Feature(name, f"1 where {meaning}, else 0", 0, 1, 0, of)


def _angle(name: str, meaning: str, of: Callable[[Reading], float]) -> Feature:
    return Feature(name, meaning, -1, 1, 0, of)


FEATURES = (
    Feature(
        "log_title_chars",
        "ln(1 + characters of the title)",
        0,
        7,
        4.1,
        lambda r: math.log1p(len(r.title)),
    ),
    Feature(
        "log_title_words",
        "ln(1 + words of the title)",
        0,
        5,
        2.4,
        lambda r: math.log1p(len(r.words)),
    ),
    Feature(
        "title_sentences",
        "ends of sentences in the title",
        0,
        6,
        0,
        lambda r: len(SENTENCE_END.findall(r.title)),
    ),
    _flag("title_asks", "the title ends with a question mark", lambda r: r.title.endswith("?")),
    _flag("title_dash", "the title has a dash between words", lambda r: bool(DASH.search(r.title))),
    _flag(
        "title_quote",
        "the title has a double quotation mark",
        lambda r: bool(QUOTE.search(r.title)),
    ),
    _class_count("single_digits", "are one digit", frozenset("0123456789")),
    Feature(
        "be_share",
        "share of the title's words: is, are, would, ...",
        0,
        1,
        0.05,
        lambda r: r.share(words.BE),
    ),
    Feature(
        "self_share",
        "share of the title's words: I, me, my, ...",
        0,
        1,
        0,
        lambda r: r.share(words.SELF),
    ),
    _class_count("reader_words", "speak to the reader: you, anyone, ...", words.READER),
    _class_count("people_words", "name people: people, students, she, ...", words.PEOPLE),
    _class_count("emphasis_words", "stress: really, most, ever, ...", words.EMPHASIS),
    _class_count("negation_words", "deny or complain: not, wrong, ...", words.NEGATION),
    _class_count("brand_words", "name a brand or product", words.BRANDS),
    _class_count("release_words", "announce: released, update, now, ...", words.RELEASE),
    _class_count("craft_words", "offer something made: open, built, guide, ...", words.CRAFT),
    _class_count("praise_words", "praise: amazing, great, ...", words.PRAISE),
    _class_count("law_words", "are of law and politics: court, bill, ...", words.LAW),
    _class_count("money_words", "are of money and work: buy, job, ...", words.MONEY),
    _class_count("appeal_words", "appeal: please, help, sign, ...", words.APPEAL),
    _flag("is_self", "the post is a text of its own, no link", lambda r: r.post.is_self),
    Feature(
        "log_selftext_chars",
        "ln(1 + characters of the text)",
        0,
        11,
        0,
        lambda r: math.log1p(r.post.selftext_chars),
    ),
    _flag(
        "image_host",
        "the link goes to an image host",
        lambda r: not r.hosts.isdisjoint(words.IMAGE_HOSTS),
    ),
    _flag(
        "photo_host",
        "the link goes to a site of photographs",
        lambda r: not r.hosts.isdisjoint(words.PHOTO_HOSTS),
    ),
    _flag(
        "video_host",
        "the link goes to a video or sound host",
        lambda r: not r.hosts.isdisjoint(words.VIDEO_HOSTS),
    ),
    _flag("reddit_host", "the link goes to the site itself", lambda r: "reddit.com" in r.hosts),
    _flag(
        "blog_host",
        "the host looks like a blog",
        lambda r: any(m in r.post.domain for m in words.BLOG_MARKS),
    ),
    _flag(
        "noncommercial_host",
        "the host is .org, .edu, ...",
        lambda r: r.post.domain.endswith(words.NONCOMMERCIAL_ENDINGS),
    ),
    _angle("hour_sin", "sine of the hour of the day, UTC", lambda r: math.sin(r.hour())),
    _angle("hour_cos", "cosine of the hour of the day, UTC", lambda r: math.cos(r.hour())),
    _angle(
        "weekday_sin",
        "sine of the day of the week, UTC, from Monday",
        lambda r: math.sin(r.weekday()),
    ),
    _angle("weekday_cos", "cosine of the day of the week, UTC", lambda r: math.cos(r.weekday())),
)
NAMES = tuple(feature.name for feature in FEATURES)


def features(post: Post) -> tuple[float, ...]:
    """The feature set of one post, in the order of NAMES."""
    reading = _read(post)
    return tuple(feature.value(reading) for feature in FEATURES)


def matrix(posts: Iterable[Post]) -> NDArray[np.float32]:
    """float32 `[posts, len(NAMES)]`."""
    rows = np.array([features(post) for post in posts], np.float32)
    return rows.reshape(-1, len(NAMES))


def _read(post: Post) -> Reading:
    title = " ".join(post.title.split())
    text = title.lower().replace("\u2019", "'")
    parts = post.domain.split(".")
    hosts = frozenset(".".join(parts[start:]) for start in range(len(parts)))
    return Reading(
        post, title, tuple(WORD.findall(text)), hosts, datetime.fromtimestamp(post.created, UTC)
    )
