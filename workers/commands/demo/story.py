"""The demo from its first request to its last: what is shown, in order, and what is measured.

The first feed; a steady stream; HSET in its middle; the first request once more; the audit of the whole topic.
"""

import subprocess
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass

from onnx_models.home_requests import Request
from workers.commands.demo.audit import Audit, audit
from workers.commands.demo.posts import POSTS, again, draw_requests
from workers.commands.demo.scene import TOPIC_CANDIDATES, TOPIC_FEEDS, Scene
from workers.commands.demo.show import (
    Narrator,
    audit_lines,
    command_lines,
    feed_table,
    formula,
    moves,
    side_by_side,
    turn_lines,
)
from workers.commands.demo.stream import Stream
from workers.commands.demo.watch import Seen, StandStill, Watch, read_topic
from workers.ranking.feed import Feed
from workers.streaming.send import Sender

RATE = 60.0
"""Requests a second."""
_TURN_AT = 0.4  # of the requests
_START_SECONDS = 60.0
_PATIENCE_SECONDS = 20.0


@dataclass(frozen=True)
class Turn:
    """The write of other weights and the first feed under them; times in ms since the epoch."""

    began: int
    returned: int
    first: Seen

    @property
    def ranked_ms(self) -> int:
        """From just before redis-cli was started to the `ranked_at` of that feed."""
        return self.first.feed.ranked_at - self.began

    @property
    def readable_ms(self) -> int:
        """From just before redis-cli was started to when that feed was read under read_committed."""
        return self.first.readable_at - self.began


@dataclass(frozen=True)
class Outcome:
    """What came of it. `trouble` says why it was cut short; what was not reached is None."""

    audit: Audit
    turn: Turn | None
    before: Feed | None
    after: Feed | None
    trouble: str | None

    @property
    def good(self) -> bool:
        """Whether all of it was shown, and nothing is lost, doubled or torn."""
        return self.audit.clean and self.trouble is None

    def document(self) -> dict[str, object]:
        """The outcome as `--json` prints it; an order is a list of item ids, the best first."""
        found = self.audit
        return {
            "requests": found.requests,
            "feeds": found.feeds,
            "lost": len(found.lost),
            "doubled": len(found.doubled),
            "torn": len(found.torn),
            "partial": len(found.partial),
            "ranked_ms": self.turn and self.turn.ranked_ms,
            "readable_ms": self.turn and self.turn.readable_ms,
            "before": self.before and _order(self.before),
            "after": self.after and _order(self.after),
            "trouble": self.trouble,
        }


class Story:
    """One performance on a scene that is set."""

    def __init__(self, scene: Scene, requests: int, seed: int, narrator: Narrator) -> None:
        self._scene = scene
        self._requests = requests
        self._narrator = narrator
        sender = Sender.to(scene.cluster, TOPIC_CANDIDATES)
        self._stream = Stream(sender, draw_requests(scene.posts, seed), RATE, 1, seed)
        self._watch = Watch(scene.cluster, TOPIC_FEEDS, scene.worker, self._count)
        self._turn: Turn | None = None
        self._before: Feed | None = None
        self._after: Feed | None = None

    def play(self, drain: Callable[[], None]) -> Outcome:
        """Play it to its end; `drain` is called before the audit, when no more is to come. Raises SendFailed."""
        with closing(self._watch):
            with self._stream:
                trouble = self._play_acts()
            with suppress(StandStill):  # the audit says what is missing
                self._until(self._all_answered, "a feed for every request")
        drain()
        return self._audit(trouble)

    def _play_acts(self) -> str | None:
        """Returns why they were cut short, if they were."""
        try:
            first, self._before = self._first_feed()
            self._stream.start()
            self._turn = self._turn_weights()
            self._after = self._same_again(first, self._before)
            self._to_the_end()
        except StandStill as cause:
            self._narrator.say("", f"  {cause}", "")
            return str(cause)
        return None

    def _count(self) -> None:
        self._narrator.count(f"{len(self._stream.sent):,} requests sent, {len(self._watch.answered):,} feeds read")

    def _all_answered(self) -> bool:
        return len(self._watch.answered) >= len(self._stream.sent)

    def _until(self, condition: Callable[[], bool], what: str, streaming_seconds: float = 0.0) -> None:
        self._watch.until(condition, what, streaming_seconds + _PATIENCE_SECONDS)

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
        enough = round(self._requests * _TURN_AT)
        self._until(lambda: len(self._watch.answered) >= enough, f"{enough} feeds", enough / RATE)
        command, version = self._scene.hset(self._scene.after.values), self._scene.after.version
        self._narrator.say(*command_lines(command), "")
        began = _now_ms()
        _run(command)
        returned = _now_ms()
        self._until(lambda: version in self._watch.first_under, "a feed under the new weights")
        turn = Turn(began, returned, self._watch.first_under[version])
        self._narrator.say(*turn_lines(turn.ranked_ms, turn.readable_ms, returned - began))
        return turn

    def _same_again(self, first: Request, before: Feed) -> Feed:
        second = again(first)
        self._stream.send(second)
        after = self._watch.feed_of(second.request_id, "the same request again", _PATIENCE_SECONDS)
        self._narrator.head(f"The same {POSTS} posts, sent before and once more after")
        self._narrator.say(*side_by_side(before, after, self._scene.titles()))
        moved = sum(1 for places in moves(before, after).values() if places)
        self._narrator.say("", f"  {moved} of {len(after.items)} posts moved; +5 is five positions up.")
        return after

    def _to_the_end(self) -> None:
        self._narrator.head("The stream goes on to its end")
        self._stream.finish(self._requests)
        seconds = self._requests / RATE
        self._until(lambda: self._stream.finished and self._all_answered(), "a feed for every request", seconds)
        self._watch.check_worker("the demo")

    def _audit(self, trouble: str | None) -> Outcome:
        scene = self._scene
        sent = {r: {post.item_id for post in request.posts} for r, request in self._stream.sent.items()}
        written = scene.before, scene.after
        found = audit(sent, read_topic(scene.cluster, TOPIC_FEEDS), written)
        self._narrator.say(*audit_lines(found, written))
        return Outcome(found, self._turn, self._before, self._after, trouble)


def _run(command: list[str]) -> None:
    """Run redis-cli. Raises StandStill where it did not answer with a number: its exit code is 0 for an error too."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not done.stdout.strip().isdigit():
        raise StandStill(f"redis-cli (exit {done.returncode}): {done.stdout.strip()} {done.stderr.strip()}".rstrip())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _order(feed: Feed) -> dict[str, object]:
    return {"weights": dict(feed.weights.values), "items": [item.item_id for item in feed.items]}
