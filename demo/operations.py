"""What an operator does while requests are sent, with the commands of `trimtab`.

- `change_and_roll_back`: preview a change of the weights, make it, show the history, and roll back.
- `try_canary`: give a share of the users other weights for a while.
- `swap_models`: add a new version of a model, see a bad one refused, and pin the old one.
"""

from collections.abc import Callable
from dataclasses import dataclass

from demo.audit import (
    ArmCounts,
    ModelSwap,
    PreviewCheck,
    check_preview,
    count_arms,
    count_other_versions,
)
from demo.environment import StepFailed
from demo.fixtures import BAD, CANARY, CANARY_PERCENT, NEW, OBJECTIVE, OLD, SURFACE, Fixtures
from demo.terminal import Shell, Terminal, arms_lines, model_swap_lines, preview_lines
from demo.traffic import FeedReader, RequestStream, now_ms, same_again
from onnx_models.home_requests import Request
from workers.ranking.feed import Feed
from workers.ranking.weights import Weights
from workers.steering.editor import SteeringEditor

WAIT_SECONDS = 20.0
"""How long something may take that should happen at once."""

_SENT_AGAIN = 30  # requests
_EXPERIMENT_FEEDS = 300
_PINNED_FEEDS = 100
# Of the lines of `weights preview`, those that begin with one of these are shown.
_PREVIEW_LINES = (
    f"{SURFACE},",
    "before",
    "after",
    "FEEDS",
    "anywhere",
    "in the first place",
    "overlap",
    "MEAN",
)


@dataclass(frozen=True)
class Context:
    """What every step of the demo works with."""

    fixtures: Fixtures
    stream: RequestStream
    reader: FeedReader
    shell: Shell
    terminal: Terminal

    def wait_until(
        self, condition: Callable[[], bool], what: str, sending_seconds: float = 0.0
    ) -> None:
        """Read feeds until the condition holds. `sending_seconds` is how long the requests for it
        take to send. Raises StepFailed, naming `what` was expected, if it takes too long.
        """
        self.reader.read_until(condition, what, sending_seconds + WAIT_SECONDS)

    def wait_for_feeds(self, count: int) -> None:
        """Read feeds until `count` requests have theirs. Raises StepFailed."""
        answered = self.reader.answered
        sending_seconds = count / self.stream.rate
        self.wait_until(lambda: len(answered) >= count, f"{count} feeds", sending_seconds)

    def run_trimtab(self, *words: str, only: tuple[str, ...] = ("",)) -> None:
        """Run a `trimtab` command as Shell does. Raises StepFailed, which names the worker if that
        has ended.
        """
        try:
            self.shell.run_trimtab(*words, only=only)
        except StepFailed:
            self.reader.check_worker(f"trimtab {' '.join(words)}")
            raise


def weights_arguments(weights: Weights) -> list[str]:
    """Weights as the arguments of `trimtab weights set`."""
    return [f"{objective}={weight:g}" for objective, weight in weights.values.items()]


def change_and_roll_back(context: Context) -> PreviewCheck:
    """Preview, set, wait, compare, history, rollback. Raises StepFailed."""
    terminal = context.terminal
    previewed_weights = context.fixtures.previewed
    arguments = weights_arguments(previewed_weights)

    terminal.heading(
        "Preview the next change: published feeds are ranked again, nothing is written (excerpt)"
    )
    context.shell.show_exports()
    previewed = _newest_requests(context)
    shown = (*_PREVIEW_LINES, *previewed_weights.values)
    context.run_trimtab("weights", "preview", SURFACE, *arguments, only=shown)

    terminal.heading("Make the change, and wait until the worker has it")
    context.run_trimtab("weights", "set", SURFACE, *arguments, "--reason", "calmer mornings")
    context.run_trimtab("weights", "wait", SURFACE)
    check = _send_previewed_again(context, previewed)
    terminal.print(*preview_lines(len(previewed), check))

    terminal.heading(
        "See who changed what and why (redis-cli leaves no name), and go back to the set before"
    )
    context.run_trimtab("weights", "history", SURFACE)
    context.run_trimtab("weights", "rollback", SURFACE)
    return check


def _newest_requests(context: Context) -> dict[str, tuple[Request, Feed]]:
    """The newest requests that have a feed, as new requests that can be sent again.

    Returns the id of each new request to the new request and the old feed.
    """
    sent = context.stream.sent
    feeds = [feed for feed in context.reader.newest if feed.request_id in sent]

    newest: dict[str, tuple[Request, Feed]] = {}
    for feed in feeds[-_SENT_AGAIN:]:
        request = same_again(sent[feed.request_id])
        if request.request_id not in sent:
            newest[request.request_id] = (request, feed)
    return newest


def _send_previewed_again(
    context: Context, previewed: dict[str, tuple[Request, Feed]]
) -> PreviewCheck:
    for request, _ in previewed.values():
        context.stream.insert(request)

    answered = context.reader.answered
    context.wait_until(
        lambda: previewed.keys() <= answered, "the feeds of the previewed requests sent again"
    )

    pairs: list[tuple[Feed, Feed]] = []
    for new_feed in context.reader.newest:
        if new_feed.request_id in previewed:
            _, old_feed = previewed[new_feed.request_id]
            pairs.append((old_feed, new_feed))
    return check_preview(pairs, context.fixtures.previewed)


def try_canary(context: Context) -> ArmCounts:
    """Weights for an arm, an experiment, its feeds counted, stop. Raises StepFailed."""
    terminal = context.terminal
    arguments = weights_arguments(context.fixtures.canary)

    terminal.heading(
        f"A canary: the feeds of {CANARY_PERCENT} % of the users are ranked under other weights"
    )
    context.run_trimtab(
        "weights", "set", SURFACE, "--arm", CANARY, *arguments, "--reason", "to try"
    )
    context.run_trimtab("experiment", "start", SURFACE, f"{CANARY}={CANARY_PERCENT}")

    counts = count_arms(_experiment_feeds(context))
    terminal.print(*arms_lines(counts), "")

    context.run_trimtab("experiment", "stop", SURFACE)
    return counts


def _experiment_feeds(context: Context) -> list[Feed]:
    """Feeds that were ranked after the canary's first, so that the worker had the experiment."""
    reader = context.reader
    version = context.fixtures.canary.version
    context.wait_until(lambda: version in reader.first_by_weights, f"a feed of the arm {CANARY}")
    context.wait_for_feeds(len(reader.answered) + _EXPERIMENT_FEEDS)

    # Other feeds of the same millisecond may have been ranked before the experiment started.
    first = reader.first_by_weights[version].feed
    return [feed for feed in reader.newest if feed.ranked_at > first.ranked_at]


def swap_models(context: Context) -> ModelSwap:
    """A new version, a bad version, rollback. Raises StepFailed."""
    ranked_ms = _add_new_version(context)
    refused = _add_bad_version(context)

    context.terminal.heading("Go back to the version before, and pin it")
    wait_seconds = f"{WAIT_SECONDS:.0f}"
    context.run_trimtab("models", "rollback", OBJECTIVE, "--wait", wait_seconds)
    pinned_at = now_ms()

    def pinned_feeds() -> list[Feed]:
        return [feed for feed in context.reader.newest if feed.ranked_at > pinned_at]

    context.wait_until(
        lambda: len(pinned_feeds()) >= _PINNED_FEEDS, "feeds that were ranked under the pin"
    )
    pinned = pinned_feeds()
    swap = ModelSwap(
        ranked_ms=ranked_ms,
        refused=refused,
        pinned=len(pinned),
        others=count_other_versions(pinned, OBJECTIVE, OLD),
    )
    context.terminal.print(*model_swap_lines(swap, OBJECTIVE, OLD))
    return swap


def _add_new_version(context: Context) -> int:
    """Return the ms from when the version was complete to when its first feed was ranked."""
    fixtures = context.fixtures
    context.terminal.heading(
        f"A new version of a model: {OBJECTIVE}, trained on these {len(fixtures.posts):,} posts"
    )
    context.run_trimtab("models", "new", OBJECTIVE, "--from", str(fixtures.new_model))

    new_version = (OBJECTIVE, NEW)
    first_feeds = context.reader.first_by_model
    context.wait_until(lambda: new_version in first_feeds, f"a feed by {OBJECTIVE}/{NEW}")

    manifest = fixtures.models / OBJECTIVE / str(NEW) / "manifest.json"
    complete_at = manifest.stat().st_mtime_ns // 1_000_000
    ranked_ms = first_feeds[new_version].ranked_at - complete_at
    context.terminal.print(
        f"  {ranked_ms} ms after its manifest was written, the first feed was ranked by it. "
        "Nothing was restarted."
    )
    return ranked_ms


def _add_bad_version(context: Context) -> str:
    """Return the reason why the bad version is refused."""
    fixtures = context.fixtures
    context.terminal.heading(
        f"A bad version: half of the file of {OBJECTIVE}/{NEW}, as if an upload had broken off"
    )
    half = (fixtures.models / OBJECTIVE / str(NEW) / "model.onnx").stat().st_size // 2
    context.shell.run_script(
        fixtures.models / OBJECTIVE,
        [
            f"mkdir {BAD}",
            f"head -c {half} {NEW}/model.onnx > {BAD}/model.onnx",
            f"""sed 's/"version": {NEW}/"version": {BAD}/' {NEW}/manifest.json > {BAD}/manifest.json""",
        ],
    )

    with SteeringEditor(fixtures.addresses.redis, "") as editor:
        context.wait_until(
            lambda: _refusal_reason(editor) is not None, f"the refusal of {OBJECTIVE}/{BAD}"
        )
        reason = _refusal_reason(editor)

    context.run_trimtab("models", "status")
    return str(reason)


def _refusal_reason(editor: SteeringEditor) -> str | None:
    """Why the worker refuses BAD; None if it does not (yet)."""
    for worker in editor.live_workers():
        if worker.status is None:
            continue
        version = worker.status.library.get(OBJECTIVE, {}).get(BAD)
        if version is not None:
            return version.reason
    return None
