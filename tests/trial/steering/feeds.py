"""A feed as it is needed to judge under which weights it was ranked."""

import json
import time
from typing import NamedTuple

from tests.rig.judge import is_whole
from tests.rig.traffic import request_number
from workers.streaming.records import Fetched


class FeedSeen(NamedTuple):
    """A feed: the number of its request, when it was readable (ns), `ranked_at` (ms), the version
    of its weights, and whether its record is whole.
    """

    request: int
    readable: int
    ranked_at: int
    version: str
    whole: bool


def see_feed(message: Fetched, candidates: int) -> FeedSeen:
    """A feed that is readable now."""
    readable = time.time_ns()
    feed = json.loads(message.value() or b"")
    request = request_number(message.key())
    return FeedSeen(
        request=request,
        readable=readable,
        ranked_at=feed["ranked_at"],
        version=feed["weights"]["version"],
        whole=is_whole(feed, request, candidates),
    )
