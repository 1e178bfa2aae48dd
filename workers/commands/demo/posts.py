"""The demo's requests: real posts of the repository's data, drawn and encoded by the repository's
own event maker.
"""

import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import onnx_models
from onnx_models.event_encoding import JsonEvents
from onnx_models.home_requests import Communities, Request, requests
from onnx_models.posts import Post, PostError, read_posts
from workers.settings import ConfigurationError

POSTS = 50
"""Posts a request."""
SURFACE = "home"
MODELS = Path(onnx_models.__path__[0])
REPOSITORY = MODELS.parent
SURFACES = REPOSITORY / "deploy" / "surfaces.toml"
_POOL = 3_000  # of the posts: enough for the eye, and their features cost the machine nothing while it streams


def load_posts(seed: int) -> list[Post]:
    """Draw the posts that requests are drawn from. Raises ConfigurationError."""
    try:
        posts = list(read_posts(MODELS / "data" / "reddit_top_posts.csv.gz"))
    except (OSError, PostError) as error:
        raise ConfigurationError(f"the repository's posts: {error}") from None
    return random.Random(seed).sample(posts, min(_POOL, len(posts)))


def draw_requests(posts: Sequence[Post], seed: int) -> Iterator[Request]:
    """Requests of POSTS posts each, without end."""
    return requests(Communities(posts), sys.maxsize, POSTS, seed)


def again(request: Request) -> Request:
    """The same posts for the same user, under a new request id."""
    return replace(request, request_id=f"{request.request_id}-again")


def asked_now(request: Request) -> Request:
    """The request as one that is made now."""
    return replace(request, requested_at=time.time_ns() // 1_000_000)


def encoder() -> JsonEvents:
    """Makes candidate events in JSON, features by position."""
    return JsonEvents(SURFACE, by_name=False)
