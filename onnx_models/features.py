"""The feature set `posts`: what a producer sends about a post that is to be ranked.

Rules:

- Every number is known when the post is shown for the first time. It comes from the title, the
  host, the length of the text, and the time when the post was made.
- No number comes from votes or comments, from later changes by moderators or the author, or from
  other posts of the community. So it can be computed for a community that training never saw.
- Values are rounded to four decimals. So they are the same on every machine, short in JSON, and the
  same float32 in every format.

To add a feature, add it at the end of FEATURES.
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
class ParsedPost:
    """A post, parsed once for all its features.

    `title` has single spaces. `words` are those of the title, in lower case and with straight
    apostrophes. `hosts` are the host and every domain above it.
    """

    post: Post
    title: str
    words: tuple[str, ...]
    hosts: frozenset[str]
    made: datetime

    def count(self, word_class: frozenset[str]) -> float:
        """How many of the title's words are in a class."""
        return sum(word in word_class for word in self.words)

    def share(self, word_class: frozenset[str]) -> float:
        """The share of the title's words that are in a class. 0 if the title has no words."""
        return self.count(word_class) / max(1, len(self.words))

    def hour(self) -> float:
        """Hours since midnight UTC, as an angle in radians: 23:59 and 0:00 are neighbours."""
        return TURN * (self.made.hour + self.made.minute / 60) / 24

    def weekday(self) -> float:
        """Days since Monday, as an angle in radians."""
        return TURN * self.made.weekday() / 7


@dataclass(frozen=True)
class Feature:
    """One number: its name, its meaning, its bounds, and the default if a producer does not send
    it.
    """

    name: str
    meaning: str
    low: float
    high: float
    default: float
    compute: Callable[[ParsedPost], float]

    def value(self, parsed: ParsedPost) -> float:
        """The number for a post: within the bounds, four decimals, zero without a sign."""
        value = float(self.compute(parsed))
        clipped = min(self.high, max(self.low, value))
        return round(clipped, 4) + 0.0  # adding 0.0 turns -0.0 into 0.0


def _word_count(name: str, meaning: str, word_class: frozenset[str]) -> Feature:
    return Feature(
        name,
        f"words of the title that {meaning}",
        low=0,
        high=8,
        default=0,
        compute=lambda parsed: parsed.count(word_class),
    )


def _flag(name: str, condition: str, compute: Callable[[ParsedPost], bool]) -> Feature:
    return Feature(name, f"1 if {condition}, else 0", low=0, high=1, default=0, compute=compute)


def _angle(name: str, meaning: str, compute: Callable[[ParsedPost], float]) -> Feature:
    return Feature(name, meaning, low=-1, high=1, default=0, compute=compute)


FEATURES = (
    Feature(
        "log_title_chars",
        "ln(1 + characters of the title)",
        low=0,
        high=7,
        default=4.1,
        compute=lambda p: math.log1p(len(p.title)),
    ),
    Feature(
        "log_title_words",
        "ln(1 + words of the title)",
        low=0,
        high=5,
        default=2.4,
        compute=lambda p: math.log1p(len(p.words)),
    ),
    Feature(
        "title_sentences",
        "ends of sentences in the title",
        low=0,
        high=6,
        default=0,
        compute=lambda p: len(SENTENCE_END.findall(p.title)),
    ),
    _flag("title_asks", "the title ends with a question mark", lambda p: p.title.endswith("?")),
    _flag("title_dash", "the title has a dash between words", lambda p: bool(DASH.search(p.title))),
    _flag(
        "title_quote",
        "the title has a double quotation mark",
        lambda p: bool(QUOTE.search(p.title)),
    ),
    _word_count("single_digits", "are one digit", frozenset("0123456789")),
    Feature(
        "be_share",
        "share of the title's words: is, are, would, ...",
        low=0,
        high=1,
        default=0.05,
        compute=lambda p: p.share(words.BE),
    ),
    Feature(
        "self_share",
        "share of the title's words: I, me, my, ...",
        low=0,
        high=1,
        default=0,
        compute=lambda p: p.share(words.SELF),
    ),
    _word_count("reader_words", "speak to the reader: you, anyone, ...", words.READER),
    _word_count("people_words", "name people: people, students, she, ...", words.PEOPLE),
    _word_count("emphasis_words", "stress: really, most, ever, ...", words.EMPHASIS),
    _word_count("negation_words", "deny or complain: not, wrong, ...", words.NEGATION),
    _word_count("brand_words", "name a brand or product", words.BRANDS),
    _word_count("release_words", "announce: released, update, now, ...", words.RELEASE),
    _word_count("craft_words", "offer something made: open, built, guide, ...", words.CRAFT),
    _word_count("praise_words", "praise: amazing, great, ...", words.PRAISE),
    _word_count("law_words", "are of law and politics: court, bill, ...", words.LAW),
    _word_count("money_words", "are of money and work: buy, job, ...", words.MONEY),
    _word_count("appeal_words", "appeal: please, help, sign, ...", words.APPEAL),
    _flag("is_self", "the post is a text of its own, no link", lambda p: p.post.is_self),
    Feature(
        "log_selftext_chars",
        "ln(1 + characters of the text)",
        low=0,
        high=11,
        default=0,
        compute=lambda p: math.log1p(p.post.selftext_chars),
    ),
    _flag(
        "image_host",
        "the link goes to an image host",
        lambda p: not p.hosts.isdisjoint(words.IMAGE_HOSTS),
    ),
    _flag(
        "photo_host",
        "the link goes to a site of photographs",
        lambda p: not p.hosts.isdisjoint(words.PHOTO_HOSTS),
    ),
    _flag(
        "video_host",
        "the link goes to a video or sound host",
        lambda p: not p.hosts.isdisjoint(words.VIDEO_HOSTS),
    ),
    _flag("reddit_host", "the link goes to the site itself", lambda p: "reddit.com" in p.hosts),
    _flag(
        "blog_host",
        "the host looks like a blog",
        lambda p: any(mark in p.post.domain for mark in words.BLOG_MARKS),
    ),
    _flag(
        "noncommercial_host",
        "the host is .org, .edu, ...",
        lambda p: p.post.domain.endswith(words.NONCOMMERCIAL_ENDINGS),
    ),
    _angle("hour_sin", "sine of the hour of the day, UTC", lambda p: math.sin(p.hour())),
    _angle("hour_cos", "cosine of the hour of the day, UTC", lambda p: math.cos(p.hour())),
    _angle(
        "weekday_sin",
        "sine of the day of the week, UTC, from Monday",
        lambda p: math.sin(p.weekday()),
    ),
    _angle("weekday_cos", "cosine of the day of the week, UTC", lambda p: math.cos(p.weekday())),
)
NAMES = tuple(feature.name for feature in FEATURES)


def features(post: Post) -> tuple[float, ...]:
    """The feature set of one post, in the order of NAMES."""
    title = " ".join(post.title.split())
    domains = post.domain.split(".")
    parsed = ParsedPost(
        post=post,
        title=title,
        words=tuple(WORD.findall(title.lower().replace("\u2019", "'"))),
        hosts=frozenset(".".join(domains[start:]) for start in range(len(domains))),
        made=datetime.fromtimestamp(post.created, UTC),
    )
    return tuple(feature.value(parsed) for feature in FEATURES)


def matrix(posts: Iterable[Post]) -> NDArray[np.float32]:
    """The feature sets of posts: float32 `[posts, len(NAMES)]`."""
    rows = np.array([features(post) for post in posts], np.float32)
    return rows.reshape(-1, len(NAMES))
