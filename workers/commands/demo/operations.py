"""What ops do in mid-stream with the commands they have: look before a change, make it, take it
back; try a canary.
"""

from onnx_models.home_requests import Request
from workers.commands.demo.cast import Cast
from workers.commands.demo.claims import Arms, Foresight, arms_of, foresight
from workers.commands.demo.posts import SURFACE, again
from workers.commands.demo.scene import CANARY, CANARY_PERCENT
from workers.commands.demo.show import arms_lines, foresight_lines
from workers.ranking.feed import Feed
from workers.ranking.weights import Weights

_SENT_AGAIN = 30  # requests
_EXPERIMENT_FEEDS = 300
_EXCERPT = (
    f"{SURFACE},",
    "before",
    "after",
    "FEEDS",
    "anywhere",
    "in the first place",
    "overlap",
    "MEAN",
)


def change_and_roll_back(cast: Cast) -> Foresight:
    """Preview, set, wait, compare, history, rollback. Raises StandStill."""
    wanted = assignments(cast.scene.proposed)
    cast.narrator.head(
        "Look before the next change (an excerpt): published feeds are ranked anew, nothing is written"
    )
    cast.shell.export()
    previewed = _last_answered(cast)
    cast.type("weights", "preview", SURFACE, *wanted, only=(*_EXCERPT, *cast.scene.proposed.values))

    cast.narrator.head("Make it, and wait until the worker ranks under it")
    cast.type("weights", "set", SURFACE, *wanted, "--reason", "calmer mornings")
    cast.type("weights", "wait", SURFACE)
    found = _same_again(cast, previewed)
    cast.narrator.say(*foresight_lines(len(previewed), found))

    cast.narrator.head(
        "Who changed what, and why (redis-cli leaves no name); and back to the set before"
    )
    cast.type("weights", "history", SURFACE)
    cast.type("weights", "rollback", SURFACE)
    return found


def try_canary(cast: Cast) -> Arms:
    """Weights for an arm, an experiment, its feeds counted, stop. Raises StandStill."""
    other = assignments(cast.scene.canary)
    cast.narrator.head(
        f"A canary: {CANARY_PERCENT} % of the users are ranked under other weights for a while"
    )
    cast.type("weights", "set", SURFACE, "--arm", CANARY, *other, "--reason", "to try")
    cast.type("experiment", "start", SURFACE, f"{CANARY}={CANARY_PERCENT}")
    found = arms_of(_feeds_of_experiment(cast))
    cast.narrator.say(*arms_lines(found), "")
    cast.type("experiment", "stop", SURFACE)
    return found


def assignments(weights: Weights) -> list[str]:
    """Weights as `trimtab weights set` takes them."""
    return [f"{objective}={weight:g}" for objective, weight in weights.values.items()]


def _last_answered(cast: Cast) -> dict[str, tuple[Request, Feed]]:
    """The last requests that have a feed, to be sent again: new id to new request and feed."""
    sent = cast.stream.sent
    last = [feed for feed in cast.watch.newest if feed.request_id in sent][-_SENT_AGAIN:]
    pairs = [(again(sent[feed.request_id]), feed) for feed in last]
    return {
        request.request_id: (request, feed)
        for request, feed in pairs
        if request.request_id not in sent
    }


def _same_again(cast: Cast, previewed: dict[str, tuple[Request, Feed]]) -> Foresight:
    for request, _ in previewed.values():
        cast.stream.send(request)
    cast.until(lambda: previewed.keys() <= cast.watch.answered, "the previewed requests again")
    pairs = [
        (previewed[new.request_id][1], new)
        for new in cast.watch.newest
        if new.request_id in previewed
    ]
    return foresight(pairs, cast.scene.proposed)


def _feeds_of_experiment(cast: Cast) -> list[Feed]:
    """Feeds that were ranked after the first of the canary: the worker has the experiment."""
    watch, version = cast.watch, cast.scene.canary.version
    cast.until(lambda: version in watch.first_under, f"a feed of the arm {CANARY}")
    cast.until_feeds(len(watch.answered) + _EXPERIMENT_FEEDS)
    # Feeds of one millisecond may be ranked on both sides of the start.
    return [
        feed for feed in watch.newest if feed.ranked_at > watch.first_under[version].feed.ranked_at
    ]
