"""The demo from its first request to its last: what is shown, in order, and what is measured.

The first feed; a steady stream; HSET in its middle; the first request once more; what ops do with
commands, a change and a canary; a model swapped; the audit of the whole topic.
"""

import time
from collections.abc import Callable
from contextlib import closing, suppress

from onnx_models.home_requests import Request
from workers.commands.demo.audit import audit
from workers.commands.demo.cast import PATIENCE_SECONDS, Cast
from workers.commands.demo.claims import Arms, Foresight, Swap
from workers.commands.demo.models import in_use
from workers.commands.demo.operations import change_and_roll_back, try_canary
from workers.commands.demo.outcome import Outcome, Turn
from workers.commands.demo.posts import POSTS, again, draw_requests
from workers.commands.demo.scene import TOPIC_CANDIDATES, TOPIC_FEEDS, Scene
from workers.commands.demo.shell import Shell, command_lines, run
from workers.commands.demo.show import (
    Narrator,
    audit_lines,
    feed_table,
    formula,
    moves,
    side_by_side,
    turn_lines,
)
from workers.commands.demo.stream import Stream
from workers.commands.demo.swap import swap_models
from workers.commands.demo.watch import StandStill, Watch, read_topic
from workers.ranking.feed import Feed
from workers.streaming.send import Sender

RATE = 60.0
"""Requests a second."""
_TURN_AT = 0.25  # of the requests
_START_SECONDS = 60.0


class Story:
    """One performance on a scene that is set."""

    def __init__(self, scene: Scene, requests: int, seed: int, narrator: Narrator) -> None:
        sender = Sender.to(scene.cluster, TOPIC_CANDIDATES)
        self._scene = scene
        self._requests = requests
        self._narrator = narrator
        self._stream = Stream(sender, draw_requests(scene.posts, seed), RATE, 1, seed)
        self._watch = Watch(scene.cluster, TOPIC_FEEDS, scene.worker, self._count)
        self._cast = Cast(
            scene,
            self._stream,
            self._watch,
            Shell(scene.addresses, scene.models, narrator),
            narrator,
        )
        self._turn: Turn | None = None
        self._before: Feed | None = None
        self._after: Feed | None = None
        self._foresight: Foresight | None = None
        self._arms: Arms | None = None
        self._swap: Swap | None = None

    def play(self, drain: Callable[[], None]) -> Outcome:
        """Play it to its end; `drain` is called before the audit, when no more is to come. Raises
        SendFailed.
        """
        with closing(self._watch):
            with self._stream:
                trouble = self._play_acts()
            with suppress(StandStill):  # the audit says what is missing
                self._cast.until(self._all_answered, "a feed for every request")
        drain()
        return self._audit(trouble)

    def _play_acts(self) -> str | None:
        """Returns why they were cut short, if they were."""
        try:
            first, self._before = self._first_feed()
            self._stream.start()
            self._turn = self._turn_weights()
            self._after = self._same_again(first, self._before)
            self._foresight = change_and_roll_back(self._cast)
            self._arms = try_canary(self._cast)
            self._swap = swap_models(self._cast)
            self._to_the_end()
        except StandStill as cause:
            self._narrator.say("", f"  {cause}", "")
            return str(cause)
        return None

    def _count(self) -> None:
        self._narrator.count(
            f"{len(self._stream.sent):,} requests sent, {len(self._watch.answered):,} feeds read"
        )

    def _all_answered(self) -> bool:
        return len(self._watch.answered) >= len(self._stream.sent)

    def _first_feed(self) -> tuple[Request, Feed]:
        with self._narrator.step("worker") as tell:
            first = self._stream.send_alone()
            feed = self._watch.feed_of(first.request_id, "the first feed", _START_SECONDS)
            tell(f"pid {self._scene.worker.pid}, and the first feed is there")
        self._narrator.head(f"The best of its {POSTS} posts: {formula(feed.weights)}")
        self._narrator.say(*feed_table(feed, self._scene.labels()))
        return first, feed

    def _turn_weights(self) -> Turn:
        self._narrator.head(
            f"{RATE:.0f} requests a second, {POSTS} posts each, every post an event. In mid-stream, other weights:"
        )
        self._cast.until_feeds(round(self._requests * _TURN_AT))
        command, version = self._scene.hset(self._scene.after.values), self._scene.after.version
        self._narrator.say(*command_lines(command), "")
        began = _now_ms()
        _redis_cli(command)
        returned = _now_ms()
        self._cast.until(lambda: version in self._watch.first_under, "a feed under the new weights")
        turn = Turn(began, returned, self._watch.first_under[version])
        self._narrator.say(*turn_lines(turn.ranked_ms, turn.readable_ms, returned - began))
        return turn

    def _same_again(self, first: Request, before: Feed) -> Feed:
        second = again(first)
        self._stream.send(second)
        after = self._watch.feed_of(second.request_id, "the same request again", PATIENCE_SECONDS)
        self._narrator.head(f"The same {POSTS} posts, sent before and once more after")
        self._narrator.say(*side_by_side(before, after, self._scene.titles()))
        moved = sum(1 for places in moves(before, after).values() if places)
        self._narrator.say(
            "", f"  {moved} of {len(after.items)} posts moved; +5 is five positions up."
        )
        return after

    def _to_the_end(self) -> None:
        self._narrator.head("The stream goes on to its end")
        self._stream.finish(self._requests)
        seconds = self._requests / RATE
        self._cast.until(
            lambda: self._stream.finished and self._all_answered(),
            "a feed for every request",
            seconds,
        )
        self._watch.check_worker("the demo")

    def _audit(self, trouble: str | None) -> Outcome:
        scene = self._scene
        sent = {
            r: {post.item_id for post in request.posts} for r, request in self._stream.sent.items()
        }
        models = in_use(scene.models, scene.surface, scene.posts)
        found = audit(sent, read_topic(scene.cluster, TOPIC_FEEDS), scene.in_force, models)
        self._narrator.say(*audit_lines(found, scene.in_force))
        return Outcome(
            found,
            self._turn,
            self._before,
            self._after,
            self._foresight,
            self._arms,
            self._swap,
            trouble,
        )


def _redis_cli(command: list[str]) -> None:
    """Run it. Raises StandStill where it does not answer with a number: its exit code is 0 for an
    error too.
    """
    said = run(command, "redis-cli").strip()
    if not said.isdigit():
        raise StandStill(f"redis-cli: {said}")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
