"""What the demo shows and measures, from the first request to the audit.

1. The first feed.
2. A steady stream of requests, and new weights by HSET while it runs.
3. The first request again: the same posts in another order.
4. What an operator does with commands (`operations.py`): a change, a canary, a new model.
5. The audit of every feed in the topic.
"""

from collections.abc import Callable
from contextlib import closing, suppress

from demo.audit import ArmCounts, ModelSwap, Outcome, PreviewCheck, WeightChange, audit
from demo.environment import StepFailed
from demo.fixtures import TOPIC_CANDIDATES, Fixtures
from demo.operations import WAIT_SECONDS, Context, change_and_roll_back, swap_models, try_canary
from demo.terminal import (
    Shell,
    Terminal,
    audit_lines,
    command_lines,
    feed_lines,
    formula,
    moved_lines,
    run_command,
    side_by_side_lines,
    weight_change_lines,
)
from demo.traffic import (
    POSTS,
    RATE,
    FeedReader,
    RequestStream,
    make_requests,
    now_ms,
    read_all_feeds,
    same_again,
)
from onnx_models.home_requests import Request
from workers.ranking.feed import Feed
from workers.streaming.send import Sender

_CHANGE_AT = 0.25  # of the requests
_START_SECONDS = 60.0


class Script:
    """One run of the demo on fixtures that are ready."""

    def __init__(self, fixtures: Fixtures, requests: int, seed: int, terminal: Terminal) -> None:
        self._fixtures = fixtures
        self._requests = requests
        self._terminal = terminal
        self._stream = RequestStream(
            Sender.to(fixtures.cluster, TOPIC_CANDIDATES),
            make_requests(fixtures.posts, seed),
            RATE,
            batch=1,
            seed=seed,
        )
        self._reader = FeedReader(fixtures.cluster, fixtures.worker, self._show_progress)
        self._context = Context(
            fixtures=fixtures,
            stream=self._stream,
            reader=self._reader,
            shell=Shell(fixtures.addresses, fixtures.models, terminal),
            terminal=terminal,
        )
        self._weight_change: WeightChange | None = None
        self._before: Feed | None = None
        self._after: Feed | None = None
        self._preview: PreviewCheck | None = None
        self._arms: ArmCounts | None = None
        self._model_swap: ModelSwap | None = None

    def run(self, before_audit: Callable[[], None]) -> Outcome:
        """Run the script to its end. `before_audit` is called once no more feeds are expected.

        Raises SendFailed.
        """
        with closing(self._reader):
            with self._stream:
                trouble = self._run_steps()
            with suppress(StepFailed):  # the audit counts what is missing
                self._context.wait_until(self._all_answered, "a feed for every request")

        before_audit()
        return self._audit(trouble)

    def _run_steps(self) -> str | None:
        """Return why the steps were cut short; None if they were not."""
        try:
            first, self._before = self._first_feed()
            self._stream.start()
            self._weight_change = self._change_weights_by_hand()
            self._after = self._same_request_again(first, self._before)
            self._preview = change_and_roll_back(self._context)
            self._arms = try_canary(self._context)
            self._model_swap = swap_models(self._context)
            self._send_the_rest()
        except StepFailed as cause:
            self._terminal.print("", f"  {cause}", "")
            return str(cause)
        return None

    def _first_feed(self) -> tuple[Request, Feed]:
        with self._terminal.step("worker") as report:
            first = self._stream.send_first()
            feed = self._reader.read_feed_of(first.request_id, "the first feed", _START_SECONDS)
            report(f"pid {self._fixtures.worker.pid}, has ranked its first feed")

        self._terminal.heading(
            f"The first feed, the best of {POSTS} posts: {formula(feed.weights)}"
        )
        self._terminal.print(*feed_lines(feed, self._fixtures.labels()))
        return first, feed

    def _change_weights_by_hand(self) -> WeightChange:
        self._terminal.heading(
            f"New weights by hand, while {RATE:.0f} requests a second are sent: "
            f"{POSTS} posts each, an event for every post"
        )
        self._context.wait_for_feeds(round(self._requests * _CHANGE_AT))
        command = self._fixtures.hset_command(self._fixtures.by_hand)
        self._terminal.print(*command_lines(command), "")

        started_at = now_ms()
        output = run_command(command, "redis-cli").strip()
        returned_at = now_ms()
        # redis-cli ends with 0 after an error too; after HSET it prints a number.
        if not output.isdigit():
            raise StepFailed(f"redis-cli: {output}")

        version = self._fixtures.by_hand.version
        first_feeds = self._reader.first_by_weights
        self._context.wait_until(lambda: version in first_feeds, "a feed under the new weights")
        first = first_feeds[version]
        change = WeightChange(
            started_at=started_at,
            returned_at=returned_at,
            ranked_at=first.feed.ranked_at,
            readable_at=first.readable_at,
        )
        self._terminal.print(*weight_change_lines(change))
        return change

    def _same_request_again(self, first: Request, before: Feed) -> Feed:
        second = same_again(first)
        self._stream.insert(second)
        after = self._reader.read_feed_of(
            second.request_id, "the feed of the first request sent again", WAIT_SECONDS
        )

        self._terminal.heading(f"The same {POSTS} posts, before and after the change")
        self._terminal.print(*side_by_side_lines(before, after, self._fixtures.titles()))
        self._terminal.print("", *moved_lines(before, after))
        return after

    def _send_the_rest(self) -> None:
        self._terminal.heading("The rest of the requests, then the audit of every feed")
        self._stream.finish(self._requests)
        self._context.wait_until(
            lambda: self._stream.finished and self._all_answered(),
            "a feed for every request",
            sending_seconds=self._requests / RATE,
        )
        self._reader.check_worker("the end of the demo")

    def _audit(self, trouble: str | None) -> Outcome:
        sent_posts: dict[str, set[str]] = {}
        for request_id, request in self._stream.sent.items():
            sent_posts[request_id] = {post.item_id for post in request.posts}

        weights = self._fixtures.weights_by_arm
        result = audit(
            sent=sent_posts,
            feeds=read_all_feeds(self._fixtures.cluster),
            weights=weights,
            scores=self._fixtures.model_scores(),
        )
        self._terminal.print(*audit_lines(result, weights))
        return Outcome(
            audit=result,
            weight_change=self._weight_change,
            before=self._before,
            after=self._after,
            preview=self._preview,
            arms=self._arms,
            model_swap=self._model_swap,
            trouble=trouble,
        )

    def _all_answered(self) -> bool:
        return len(self._reader.answered) >= len(self._stream.sent)

    def _show_progress(self) -> None:
        sent = len(self._stream.sent)
        read = len(self._reader.answered)
        self._terminal.progress(f"{sent:,} requests sent, {read:,} feeds read")
