"""What model owners do in mid-stream: put a version into the folder, see a bad one refused, and go
back.
"""

import time

from workers.commands.demo.cast import Cast
from workers.commands.demo.claims import Swap, strayed
from workers.commands.demo.models import BAD, NEW, OBJECTIVE, OLD, half_of
from workers.commands.demo.show import swap_lines
from workers.ranking.feed import Feed
from workers.steering.editor import SteeringEditor

_PINNED_FEEDS = 100
_WAIT_SECONDS = "20"


def swap_models(cast: Cast) -> Swap:
    """A new version, a bad version, rollback. Raises StandStill."""
    ranked_ms = _bring_new(cast)
    refused = _bring_bad(cast)
    cast.narrator.head("Back to the version before, and hold it, whatever comes into the folder")
    cast.type("models", "rollback", OBJECTIVE, "--wait", _WAIT_SECONDS)
    pinned_at = time.time_ns() // 1_000_000
    cast.until(
        lambda: len(_since(cast, pinned_at)) >= _PINNED_FEEDS,
        "feeds that were ranked under the pin",
    )
    pinned = _since(cast, pinned_at)
    found = Swap(ranked_ms, refused, len(pinned), strayed(pinned, OBJECTIVE, OLD))
    cast.narrator.say(*swap_lines(found, OBJECTIVE, OLD))
    return found


def _since(cast: Cast, moment: int) -> list[Feed]:
    return [feed for feed in cast.watch.newest if feed.ranked_at > moment]


def _bring_new(cast: Cast) -> int:
    """Returns from when the version was complete to when its first feed was ranked, in ms."""
    scene, new = cast.scene, (OBJECTIVE, NEW)
    cast.narrator.head(
        f"Another model in mid-stream: {OBJECTIVE} trained anew, on these {len(scene.posts):,} posts, from another seed"
    )
    cast.type("models", "new", OBJECTIVE, "--from", str(scene.another))
    cast.until(lambda: new in cast.watch.first_by, f"a feed by {OBJECTIVE}/{NEW}")
    manifest = scene.models / OBJECTIVE / str(NEW) / "manifest.json"
    ranked_ms = cast.watch.first_by[new].ranked_at - manifest.stat().st_mtime_ns // 1_000_000
    cast.narrator.say(
        f"  {ranked_ms} ms after its manifest was there the first feed was ranked by it, without a restart."
    )
    return ranked_ms


def _bring_bad(cast: Cast) -> str:
    """Returns the reason why it is refused."""
    scene = cast.scene
    cast.narrator.head(
        f"A bad one: half of the file of {OBJECTIVE}/{NEW}, as of an upload that broke off"
    )
    cast.shell.type_in(scene.models / OBJECTIVE, half_of(scene.models))
    with SteeringEditor(scene.addresses.redis, "") as desk:
        cast.until(lambda: _refusal(desk) is not None, f"the refusal of {OBJECTIVE}/{BAD}")
        reason = _refusal(desk)
    cast.type("models", "status")
    return str(reason)


def _refusal(desk: SteeringEditor) -> str | None:
    """The reason why the worker refuses BAD, once it does."""
    said = (
        one.status.library.get(OBJECTIVE, {}).get(BAD)
        for one in desk.workers()
        if one.status is not None
    )
    return next((version.reason for version in said if version is not None), None)
