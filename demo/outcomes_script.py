"""What `--outcomes` shows: an experiment from its start to its verdict, and an arm that does harm.

1. Simulated readers, and what they like.
2. An experiment with two arms and guard rails.
3. Looks at the report, until one arm is found better and a guard rail has stopped the other.
4. The arm that is better is promoted.
5. The truth beside the report, and everything that can be counted.
"""

import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from demo.audit import audit
from demo.environment import MODELS, StepFailed
from demo.fixtures import SURFACE, TOPIC_CANDIDATES, model_scores
from demo.outcomes_audit import (
    Answer,
    Books,
    Compared,
    OutcomesResult,
    Stop,
    Totals,
    follow_stop,
)
from demo.outcomes_fixtures import (
    CANARY,
    GUARD_RAILS,
    HIDE,
    PERCENTS,
    RISKY,
    TAKE_RATE_BOUND,
    TUNED_FOR,
    WINDOW_S,
    OutcomesFixtures,
)
from demo.readers import Readers
from demo.taste import SEEN, TAKE_OTHER, TAKE_TALKED_OF
from demo.terminal import Shell, Terminal, compared_lines, fact_lines, look_lines
from demo.traffic import POSTS, RATE, RequestStream, make_requests, read_all_feeds
from workers.local import processes
from workers.outcomes.rails import RailStanding
from workers.outcomes.reconciliation import totals_of
from workers.outcomes.report import Verdict
from workers.ranking.experiment import CONTROL
from workers.settings import SETTINGS
from workers.steering.editor import SteeringEditor
from workers.steering.guard_rail import GUARD_RAIL_ACTOR, stopped_arms
from workers.steering.history import HistoryEntry
from workers.streaming.evidence import Evidence, EvidenceTopics, read_evidence
from workers.streaming.log_reader import read_topic
from workers.streaming.send import Sender

_START_SECONDS = 60.0
_WAIT_SECONDS = 20.0
_CLOSE_SECONDS = 60.0
_LOOK_EVERY_SECONDS = 5.0
_PAUSE_SECONDS = 0.1
_FEEDS_FOR_TRUTH = 1_000
_STAGES = {"join", "users"}
_TOPICS = EvidenceTopics(
    feed_outcomes=str(SETTINGS["topic_feed_outcomes"].default),
    user_outcomes=str(SETTINGS["topic_user_outcomes"].default),
    request_outcomes=str(SETTINGS["topic_request_outcomes"].default),
)
_TOPIC_REFUSED = str(SETTINGS["topic_interaction_letters"].default)


class OutcomesScript:
    """One run of `--outcomes` on fixtures that are ready.

    It gives up `patience` seconds after the start of the experiment.
    """

    def __init__(
        self, fixtures: OutcomesFixtures, patience: float, seed: int, terminal: Terminal
    ) -> None:
        self._fixtures = fixtures
        self._patience = patience
        self._seed = seed
        self._terminal = terminal
        self._shell = Shell(fixtures.addresses, MODELS, terminal, fixtures.surfaces_file)
        self._editor = SteeringEditor(fixtures.addresses.redis, "")
        self._stream = RequestStream(
            Sender.to(fixtures.cluster, TOPIC_CANDIDATES),
            make_requests(fixtures.posts, seed),
            RATE,
            batch=POSTS,
            seed=seed,
        )
        self._readers = Readers(fixtures.cluster, fixtures.taste, keep=_FEEDS_FOR_TRUTH)
        self._started_at = 0
        self._decided_after_ms: int | None = None
        self._stopped: HistoryEntry | None = None
        self._promoted = False
        self._last_failure = ""

    def run(self, before_audit: Callable[[], None]) -> OutcomesResult:
        """Run the script to its end. `before_audit` is called once no more feeds are expected.

        Raises SendFailed.
        """
        books = None
        with self._editor, self._readers:
            with self._stream:
                trouble = self._run_steps()
            self._terminal.heading("The rest of the feeds, and the end of their outcome windows")
            with suppress(StepFailed):  # the audit counts what is missing
                self._wait_until(self._all_answered, "a feed for every request", _WAIT_SECONDS)

        try:
            evidence = self._read_closed()
            books = self._books(evidence)
        except StepFailed as cause:
            trouble = trouble or str(cause)
            self._terminal.print("", f"  {cause}", "")

        compared = self._compare() if self._started_at and books is not None else None
        before_audit()
        return self._audit(books, compared, trouble)

    def _run_steps(self) -> str | None:
        """Return why the steps were cut short; None if they were not."""
        try:
            self._wait_for_stages()
            self._stream.start()
            self._start_experiment()
            self._watch()
            self._show_stop()
            self._show_report()
            self._promote()
        except StepFailed as cause:
            self._terminal.print("", f"  {cause}", "")
            return str(cause)
        return None

    def _wait_for_stages(self) -> None:
        with self._terminal.step("worker") as report:
            self._stream.send_first()
            self._wait_until(self._all_answered, "the first feed", _START_SECONDS)
            report("has ranked its first feed")
        with self._terminal.step("outcomes") as report:
            self._wait_until(self._has_stages, "the join and the users stage", _START_SECONDS)
            report("the join and the users stage have their partitions")

    def _has_stages(self) -> bool:
        working = set[str]()
        for process in self._editor.read_stages().processes:
            status = process.status
            if status is not None and status.report.partitions:
                working.add(process.stage)
        return working >= _STAGES

    def _start_experiment(self) -> None:
        self._terminal.heading("The readers are simulated, and this is what they like")
        self._terminal.print(
            f"  A reader looks at the first {SEEN} posts of a feed. A post whose discussion is among the"
            " longest fifth",
            f"  of its community is taken with a probability of {TAKE_TALKED_OF:.0%}, any other with"
            f" {TAKE_OTHER:.0%}; some readers are keener,",
            "  others less. No model and no command knows this. (demo/taste.py)",
        )

        self._terminal.heading("Two other sets of weights, each for a share of the users")
        self._shell.show_exports()
        for arm in PERCENTS:
            weights = self._fixtures.arms[arm].values.items()
            arguments = [f"{objective}={weight:g}" for objective, weight in weights]
            self._shell.run_trimtab(
                "weights", "set", SURFACE, "--arm", arm, *arguments, "--reason", "to try"
            )

        guards: list[str] = []
        for rail in GUARD_RAILS:
            guards += ["--guard", rail]
        shares = [f"{arm}={percent}" for arm, percent in PERCENTS.items()]
        salt = f"demo-{self._seed}"
        self._shell.run_trimtab(
            "experiment",
            "start",
            SURFACE,
            *shares,
            "--salt",
            salt,
            "--tuned-for",
            TUNED_FOR,
            *guards,
        )
        view = self._editor.read_view(self._fixtures.surface)
        last = view.experiment.last
        assert last is not None
        self._started_at = last.at

    def _watch(self) -> None:
        """Look again and again, until CANARY is found better and clears its rails, and RISKY is
        stopped. Raises StepFailed if that does not happen.
        """
        self._terminal.heading(
            f"Look every {_LOOK_EVERY_SECONDS:.0f} seconds, and the guard rails look as well"
        )
        self._terminal.print(
            "  A look is `trimtab outcomes report home`. These are its first lines. Times are since the start.",
            f"  A feed counts once its outcome window of {WINDOW_S} s is over.",
            "",
        )
        deadline = time.monotonic() + self._patience
        next_look = time.monotonic()
        is_better = False
        # A look takes a while on a busy machine, and a stop must be noticed meanwhile.
        with ThreadPoolExecutor(max_workers=1) as background:
            look: Future[dict[str, Any] | None] | None = None
            while self._stopped is None or not is_better:
                self._check_everybody("the verdict")
                if self._stopped is None:
                    self._notice_stop()
                if look is not None and look.done():
                    is_better = self._show_look(look.result())
                    look = None
                if look is None and time.monotonic() >= next_look:
                    next_look = time.monotonic() + _LOOK_EVERY_SECONDS
                    look = background.submit(self._read_report)
                if time.monotonic() > deadline:
                    raise StepFailed(
                        f"Not seen within {self._patience:.0f} s: {CANARY} better and clear of all"
                        f" guard rails, and {RISKY} stopped. More --patience or another --seed may"
                        " show it."
                    )
                time.sleep(_PAUSE_SECONDS)

    def _notice_stop(self) -> None:
        view = self._editor.read_view(self._fixtures.surface)
        entry = stopped_arms(view).get(RISKY)
        if entry is not None:
            self._stopped = entry
            after_s = (entry.at - self._started_at) / 1000
            sentence = f"{GUARD_RAIL_ACTOR}: {RISKY} gets no users any more"
            self._terminal.print(*look_lines(after_s, [sentence]))

    def _read_report(self) -> dict[str, Any] | None:
        """The report as JSON. None if the command has nothing to report yet, or fails."""
        try:
            output = self._shell.read_trimtab("outcomes", "report", SURFACE, "--json")
        except StepFailed as failed:
            self._last_failure = str(failed)
            return None
        document: dict[str, Any] = json.loads(output)
        return document

    def _show_look(self, report: dict[str, Any] | None) -> bool:
        """Print the sentences of a report. Return whether CANARY is found better and clear of all
        guard rails. Raises StepFailed if it is found to be something else.
        """
        if report is None:
            message = self._last_failure.partition("Error: ")[2] or self._last_failure
            self._terminal.print(*look_lines(self._age_s(), [message]))
            return False

        by_arm: dict[str, Any] = {arm["arm"]: arm for arm in report["arms"]}
        sentences = [by_arm[arm]["sentence"] for arm in PERCENTS if arm in by_arm]
        self._terminal.print(*look_lines(self._age_s(), [*sentences, *report["warnings"]]))

        canary = by_arm.get(CANARY)
        if canary is None:
            return False
        verdict = Verdict(canary["verdict"])
        if verdict.is_withheld or verdict is Verdict.WORSE:
            raise StepFailed(f"The report does not find {CANARY} better: {canary['sentence']}")
        if verdict is not Verdict.BETTER:
            return False
        if self._decided_after_ms is None:
            self._decided_after_ms = round(self._age_s() * 1000)
        return all(rail["standing"] == RailStanding.CLEAR for rail in canary["rails"])

    def _age_s(self) -> float:
        return time.time() - self._started_at / 1000

    def _show_stop(self) -> None:
        assert self._stopped is not None
        stopped_at = self._stopped.at
        self._wait_until(
            lambda: self._has_feed_after(stopped_at), "feeds after the stop", _WAIT_SECONDS
        )
        stop = self._follow_stop(self._stopped)
        self._terminal.heading(f"{RISKY} was stopped. Who did that, and why?")
        self._shell.run_trimtab("weights", "history", SURFACE, "--last", "1")
        self._shell.run_trimtab("experiment", "show", SURFACE)
        self._terminal.print(
            f"  {RISKY} ran for {stop.after_ms / 1000:.1f} s. The last of its feeds was ranked {_after(stop.back_ms)},",
            f"  the first feed of {CONTROL} for one of its users {_after(stop.first_ms)}.",
            f"  Since then its {stop.users:,} users got {stop.feeds_after:,} feeds,"
            f" {stop.elsewhere} of another arm than {CONTROL}.",
        )

    def _show_report(self) -> None:
        self._terminal.heading(f"{CANARY} is better. The whole report")
        self._shell.run_trimtab("outcomes", "report", SURFACE)

    def _promote(self) -> None:
        self._terminal.heading("So its weights are for everybody from now on: it clears its rails")
        self._shell.run_trimtab("experiment", "promote", SURFACE, CANARY, "--reason", "it pays off")
        version = self._fixtures.arms[CANARY].version
        self._wait_until(
            lambda: any(
                answer.arm == CONTROL and answer.weights == version
                for answer in self._readers.answers[-100:]
            ),
            f"a feed of {CONTROL} under the weights of {CANARY}",
            _WAIT_SECONDS,
        )
        self._promoted = True

    # Counting

    def _read_closed(self) -> Evidence:
        """The sums once every feed that was read is closed and counted by both stages.

        Raises StepFailed if that takes too long. Then the audit has nothing to compare.
        """
        deadline = time.monotonic() + _CLOSE_SECONDS
        expected = len(self._readers.answers)
        while True:
            evidence = read_evidence(self._fixtures.cluster, _TOPICS, SURFACE)
            books = self._books(evidence)
            if min(books.over_feeds.feeds, books.over_users.feeds) >= expected:
                return evidence
            if time.monotonic() > deadline:
                raise StepFailed(
                    f"Not counted within {_CLOSE_SECONDS:.0f} s: of {expected:,} feeds the join has"
                    f" {books.over_feeds.feeds:,}, the users stage {books.over_users.feeds:,}"
                )
            time.sleep(_PAUSE_SECONDS)

    def _books(self, evidence: Evidence) -> Books:
        over_feeds = Totals(0, 0, 0)
        hidden = 0
        for sums in evidence.feeds.values():
            over_feeds = _plus(over_feeds, Totals(*totals_of(sums)))
            hidden += sum(cluster.others.get(HIDE, 0) for cluster in sums.clusters.values())

        over_users = Totals(0, 0, 0)
        for user_sums in (evidence.users or {}).values():
            counted = Totals(user_sums.feeds, user_sums.seen, user_sums.takes)
            over_users = _plus(over_users, counted)

        return Books(
            interactions=self._readers.sent.total(),
            refused=len(read_topic(self._fixtures.cluster, _TOPIC_REFUSED)),
            counted=over_feeds.seen + over_feeds.takes + hidden,
            over_feeds=over_feeds,
            over_users=over_users,
        )

    def _compare(self) -> dict[str, Compared]:
        """What the last report says of each arm beside what is true of it."""
        feeds = self._readers.kept
        true_rates: dict[str, float] = {}
        for arm, weights in self._fixtures.arms.items():
            true_rates[arm] = self._fixtures.taste.true_take_rate(feeds, weights)

        report = json.loads(self._shell.read_trimtab("outcomes", "report", SURFACE, "--json"))
        compared: dict[str, Compared] = {}
        for arm in report["arms"]:
            name = arm["arm"]
            lift = arm["comparison"]
            if lift is None:
                continue
            compared[name] = Compared(
                arm=name,
                take_rate=arm["take_rate"],
                true_take_rate=true_rates[name],
                lift=lift["lift"],
                low=lift["interval"]["low"],
                high=lift["interval"]["high"],
                true_lift=true_rates[name] / true_rates[CONTROL] - 1,
            )
        return compared

    def _follow_stop(self, entry: HistoryEntry) -> Stop:
        return follow_stop(entry, self._started_at, list(self._readers.answers), RISKY)

    def _audit(
        self, books: Books | None, compared: dict[str, Compared] | None, trouble: str | None
    ) -> OutcomesResult:
        sent_posts: dict[str, set[str]] = {}
        for request_id, request in self._stream.sent.items():
            sent_posts[request_id] = {post.item_id for post in request.posts}

        fixtures = self._fixtures
        result = OutcomesResult(
            audit=audit(
                sent=sent_posts,
                feeds=read_all_feeds(fixtures.cluster),
                weights=fixtures.weights_by_arm,
                scores=model_scores(fixtures.surface, fixtures.posts, MODELS),
            ),
            winner=CANARY,
            harmful=RISKY,
            bound=TAKE_RATE_BOUND,
            books=books,
            stop=None if self._stopped is None else self._follow_stop(self._stopped),
            decided_after_ms=self._decided_after_ms,
            compared=compared,
            promoted=self._promoted,
            trouble=trouble,
        )
        if compared:
            self._terminal.heading("The truth beside the report")
            self._terminal.print(*compared_lines(compared.values()))
        self._terminal.heading("What was counted")
        self._terminal.print(*fact_lines(result.facts()))
        return result

    # Waiting

    def _wait_until(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait until the condition holds. Raises StepFailed, naming `what` was expected."""
        deadline = time.monotonic() + seconds
        while not condition():
            self._check_everybody(what)
            if time.monotonic() > deadline:
                raise StepFailed(f"Not seen within {seconds:.0f} s: {what}")
            time.sleep(_PAUSE_SECONDS)

    def _check_everybody(self, what: str) -> None:
        """Raise StepFailed if a process or the readers have ended."""
        self._readers.check()
        for name, process in self._fixtures.processes.items():
            if processes.has_ended(process):
                raise StepFailed(f"The {name} (pid {process.pid}) has ended before {what}")

        sent = len(self._stream.sent)
        read = len(self._readers.answers)
        self._terminal.progress(f"{sent:,} requests sent, {read:,} feeds read")

    def _all_answered(self) -> bool:
        return len(self._readers.answers) >= len(self._stream.sent)

    def _has_feed_after(self, stopped_at: int) -> bool:
        """Whether a user of RISKY got a feed after the last one of that arm."""
        answers: list[Answer] = list(self._readers.answers)
        return any(answer.ranked_at > stopped_at + 2000 for answer in answers[-50:])


def _plus(one: Totals, other: Totals) -> Totals:
    return Totals(
        feeds=one.feeds + other.feeds,
        seen=one.seen + other.seen,
        takes=one.takes + other.takes,
    )


def _after(ms: int) -> str:
    return f"{ms:,} ms after the stop" if ms else "before the stop"
