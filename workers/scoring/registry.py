"""The models' folder, followed while the worker runs: a thread notices, has verified, and loads;
the loop only looks.

The thread puts one immutable catalogue in the place of another. It alone changes what is loaded; it
takes no lock that the loop takes, and the loop asks it by a queue. Exams come back by the same
queue, so that it waits for none of them.
"""

import queue
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

from workers.errors import Failure
from workers.ranking.experiment import CONTROL
from workers.ranking.mix import NO_PINS, Pinned
from workers.ranking.surface import Surface, Surfaces, feature_sets_by_objective
from workers.scoring.catalogue import Catalogue, Entry, State, Verdict
from workers.scoring.folder import Folder
from workers.scoring.isolate import ModelError
from workers.scoring.loader import Loader
from workers.scoring.refusal import Version
from workers.scoring.resolver import LoadRequest, ModelQuery, Resolution, Resolver
from workers.scoring.scan import look_again
from workers.scoring.verifier import Verifier
from workers.scoring.verifier_process import VERIFICATION_LIMITS, VerificationLimits
from workers.scoring.verify import SIZE_LIMIT

MODELS_AT_START: Final = 32
"""So many are verified before the first record is read; what is beyond them is verified as it is
used.
"""

_LOOK_SECONDS = 0.5
_JOIN_SECONDS = 5.0


class NoVerifiedModel(Failure):
    """An objective that a surface needs has no version that verifies: the worker must not start."""


class RegistryFailed(Exception):
    """The thread that follows the models' folder has ended by an error, which is the cause: no
    request's fault.
    """


class ModelCounts(NamedTuple):
    """Totals since the start. A hit is a micro-batch's look for models that were there, a miss one
    that waits.
    """

    hits: int
    misses: int
    swaps: int
    verified: int
    refused: int
    loads: int
    evictions: int
    bytes_loaded: int


class Registry:
    """Every model in a folder. Entered, it has verified what the surfaces need, and its thread runs
    until the exit.

    `say` takes events for the log, `on_change` each new catalogue: both are called in the thread,
    at the start in the caller's. `budget_bytes` bounds what is loaded, by estimate, `limits` each
    exam. Raises NoVerifiedModel when entered.
    """

    def __init__(
        self,
        root: Path,
        surfaces: Surfaces,
        budget_bytes: int,
        say: Callable[..., None] = lambda event, **fields: None,
        on_change: Callable[[Catalogue], None] = lambda catalogue: None,
        size_limit: int = SIZE_LIMIT,
        limits: VerificationLimits = VERIFICATION_LIMITS,
    ) -> None:
        self._root, self._say, self._on_change = root, say, on_change
        self._surfaces = surfaces
        self._needed = feature_sets_by_objective(surfaces)
        self._folder = Folder(root)
        self._reader = Loader(budget_bytes, size_limit, say, time.monotonic)
        self._examiner = Verifier(size_limit, limits)
        self._exams = ThreadPoolExecutor(1, "exams")
        self._exam: Entry | None = None
        self._catalogue = Catalogue(0, {})
        self._heard: queue.SimpleQueue[LoadRequest | Future[Verdict] | None] = queue.SimpleQueue()
        self._asked: dict[Version, bool] = {}
        self._answers = Resolver(self._heard.put, say, time.monotonic)
        self._failed: set[tuple[str, int, str, bool]] = set()
        self._changed = threading.Condition()
        self._failure: Exception | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="models", daemon=True)

    # For the loop, and for whoever looks

    @property
    def catalogue(self) -> Catalogue:
        """The snapshot in force, of any thread's."""
        return self._catalogue

    @property
    def in_force(self) -> dict[str, dict[str, int]]:
        """Objective to version by surface, as feeds outside of every arm were scored last, or would
        be first.
        """
        scored, available = self._answers.in_force, self.available()
        return {
            name: dict(
                scored.get((name, CONTROL))
                or {o: available[o] for o in surface.objectives if o in available}
            )
            for name, surface in self._surfaces.items()
        }

    def available(self) -> dict[str, int]:
        """Objective to the highest version that is available."""
        found = (
            (o, next((n for n, e in v.items() if e.is_available), 0))
            for o, v in self._catalogue.entries.items()
        )
        return {objective: number for objective, number in found if number}

    def states(self) -> dict[str, dict[int, dict[str, str]]]:
        """Objective to version to its state, and why it is refused, as JSON can carry it."""
        return {
            o: {n: _state(entry) for n, entry in v.items()}
            for o, v in self._catalogue.entries.items()
        }

    @property
    def tally(self) -> ModelCounts:
        """What was counted so far."""
        answers, reader = self._answers, self._reader
        return ModelCounts(
            answers.hits, answers.misses, answers.swaps, *reader.tally, reader.sessions.bytes
        )

    def models_for(
        self,
        surface: Surface,
        objectives: Sequence[str],
        pins: Pinned = NO_PINS,
        arm: str = CONTROL,
    ) -> Resolution:
        """The models of a surface's feeds of one arm, in the order of `objectives`. Never waits:
        the loop's thread.

        While what is to be in force is verified and loaded, what was goes on. Raises LibraryFailed.
        """
        if self._failure is not None:
            raise RegistryFailed(repr(self._failure)) from self._failure
        return self._answers.answer(self._catalogue, ModelQuery(surface, arm, objectives, pins))

    def note_errors(self, errors: Iterable[ModelError]) -> None:
        """Log how models failed: once for each version that fails on some row, and once if it fails
        altogether.
        """
        for error in errors:
            what = (
                error.model.objective,
                error.model.version,
                error.model.sha256,
                error.features is None,
            )
            if what not in self._failed:
                self._failed.add(what)
                self._say("model_error", **error.described())

    def want(self, objective: str, version: int) -> None:
        """Ask that a version be verified, of any thread's; the answer is a catalogue to come."""
        self._heard.put(LoadRequest(objective, version, load=False))

    def wait_past(self, revision: int, timeout: float) -> bool:
        """Wait until the catalogue is past a revision; whether it came to be within `timeout`
        seconds.
        """
        with self._changed:
            return self._changed.wait_for(
                lambda: self._catalogue.revision > revision or bool(self._failure), timeout
            )

    # The start and the end

    def __enter__(self) -> "Registry":
        try:
            self._look()
            self._verify_first()
        except BaseException:
            self._examiner.close()
            raise
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping = True
        self._heard.put(None)
        self._thread.join(_JOIN_SECONDS)
        self._exams.shutdown(wait=False, cancel_futures=True)
        self._examiner.close()

    def _verify_first(self) -> None:
        left, others = (
            MODELS_AT_START,
            [o for o in self._catalogue.entries if o not in self._needed],
        )
        for objective in (*self._needed, *others):
            while left and (entry := self._catalogue.next_to_verify(objective)) is not None:
                verdict = self._examine(entry)
                self._put([self._reader.judge(entry, verdict, load=False)])
                left -= 1
        lacking = [
            self._lack(objective) for objective in self._needed if self._is_lacking(objective)
        ]
        if lacking:
            raise NoVerifiedModel("; ".join(lacking))

    def _is_lacking(self, objective: str) -> bool:
        return all(
            entry.state is State.REFUSED for entry in self._catalogue.versions(objective).values()
        )

    def _lack(self, objective: str) -> str:
        refusals = [str(entry.refusal) for entry in self._catalogue.versions(objective).values()]
        if not refusals:
            folder = self._root / objective
            return f"objective {objective!r}: no version in {folder}, expected {folder / '1'}"
        return f"objective {objective!r}: no version verifies: " + "; ".join(refusals)

    # The thread

    def _run(self) -> None:
        try:
            looked = time.monotonic()
            while not self._stopping:
                self._hear(looked + _LOOK_SECONDS)
                self._load_one()
                if time.monotonic() >= looked + _LOOK_SECONDS:
                    if self._exam is None:
                        self._examiner.rest()
                    self._look()
                    looked = time.monotonic()
                self._begin_exam()
        except Exception as failure:
            # Nothing would be swapped any more: the loop raises it, and the worker ends.
            self._failure = failure
            with self._changed:
                self._changed.notify_all()
            raise

    def _hear(self, until: float) -> None:
        """Take what is asked and what was examined, all that has come; wait for it where nothing is
        to be loaded.
        """
        self._asked = {
            version: load for version, load in self._asked.items() if self._is_open(version, load)
        }
        patience = 0.001 if self._waiting(State.AVAILABLE) else max(0.001, until - time.monotonic())
        try:
            self._take(self._heard.get(timeout=patience))
            while True:
                self._take(self._heard.get_nowait())
        except queue.Empty:
            pass

    def _take(self, heard: LoadRequest | Future[Verdict] | None) -> None:
        if self._stopping or heard is None:
            return
        if isinstance(heard, Future):
            self._end_exam(heard.result())
        elif (entry := self._meant(heard)) is not None:
            self._asked[entry.version] = heard.load or self._asked.get(entry.version, False)

    def _meant(self, ask: LoadRequest) -> Entry | None:
        if ask.version is not None:
            return self._catalogue.entry(ask.objective, ask.version)
        versions = self._catalogue.versions(ask.objective).values()
        return next((entry for entry in versions if entry.state is State.LISTED), None)

    def _is_open(self, version: Version, load: bool) -> bool:
        entry = self._catalogue.entry(version.objective, version.number)
        return entry is not None and (
            entry.state is State.LISTED or (load and entry.state is State.AVAILABLE)
        )

    def _waiting(self, state: State) -> list[Entry]:
        """What is asked for and has come so far; first what is to be loaded."""
        asked = sorted(self._asked, key=lambda version: not self._asked[version])
        found = (self._catalogue.entry(version.objective, version.number) for version in asked)
        return [entry for entry in found if entry is not None and entry.state is state]

    def _load_one(self) -> None:
        """Load what is smallest of all that is asked for: it should not wait for what takes long."""
        available = [
            entry for entry in self._waiting(State.AVAILABLE) if self._asked[entry.version]
        ]
        if available and not self._stopping:
            self._put([self._reader.load(min(available, key=_size))])

    def _begin_exam(self) -> None:
        if self._exam is not None or self._stopping:
            return
        waiting = self._waiting(State.LISTED)
        self._exam = waiting[0] if waiting else next(self._unverified(), None)
        if self._exam is not None:
            self._exams.submit(self._examine, self._exam).add_done_callback(self._heard.put)

    def _end_exam(self, verdict: Verdict) -> None:
        entry, self._exam = self._exam, None
        # Its folder may have gone meanwhile, and come again.
        if entry is not None and entry is self._catalogue.entry(
            entry.version.objective, entry.version.number
        ):
            self._put([self._reader.judge(entry, verdict, self._asked.get(entry.version, False))])

    def _examine(self, entry: Entry) -> Verdict:
        return self._examiner.examine(
            entry.version.folder, self._needed.get(entry.version.objective, ())
        )

    def _unverified(self) -> Iterator[Entry]:
        found = (self._catalogue.next_to_verify(objective) for objective in self._catalogue.entries)
        return (entry for entry in found if entry is not None)

    def _look(self) -> None:
        in_force = {(o, n) for models in self._answers.in_force.values() for o, n in models.items()}
        changes = look_again(self._catalogue, self._folder.look(), in_force)
        for version in changes.dropped:
            self._reader.let_go(version)
            self._say("model_gone", model=f"{version.objective}/{version.number}")
        if changes.put or changes.dropped:
            self._put(changes.put, changes.dropped)

    def _put(self, entries: Collection[Entry], dropped: Collection[Version] = ()) -> None:
        """Put another catalogue in place, in which whatever has lost its session is not loaded any
        more.
        """
        changed = self._catalogue.changed(entries, dropped)
        evicted = self._reader.make_room(changed, {entry.version for entry in entries})
        with self._changed:
            self._catalogue = changed.changed(evicted) if evicted else changed
            self._changed.notify_all()
        self._on_change(self._catalogue)


def _size(entry: Entry) -> int:
    return entry.sound.size if entry.sound else 0


def _state(entry: Entry) -> dict[str, str]:
    why = entry.refusal
    return {"state": str(entry.state)} | (
        {"reason": str(why.reason), "message": why.message} if why else {}
    )
