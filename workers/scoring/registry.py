"""Every model in the models folder, kept up to date while the worker runs.

Three threads share the work, and a verifier process beside the worker:
- The ranking loop calls `models_for` and `note_errors`. It only reads the current catalogue, which
  is immutable. What it needs beyond that it requests through the inbox.
- The `models` thread scans the folder, loads and evicts sessions, and replaces the catalogue by the
  next one. It alone does so, once the registry has started.
- The `verification` thread waits for the verifier process, one version at a time. Verdicts come
  back through the inbox.

What is never waited for:
- The ranking loop waits for nothing. It takes no lock that another thread holds, and it never loads
  or verifies a model. A request whose models are missing waits, not the loop.
- The models thread never waits for a verdict. It goes on loading in the meantime.
- Nothing waits for the verifier process at the exit: it is killed.

An error in the models thread is kept, and raised in the loop by `models_for`: the worker ends.
"""

import queue
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

from workers.errors import Failure
from workers.ranking.experiment import CONTROL
from workers.ranking.mix import NO_PINS, Pinned
from workers.ranking.surface import Surface, Surfaces, feature_sets_by_objective
from workers.scoring.catalogue import (
    Catalogue,
    CatalogueEntry,
    Rejected,
    Verdict,
    VersionState,
)
from workers.scoring.failing_rows import ModelError
from workers.scoring.folder import Folder, changes_of, stamp
from workers.scoring.refusal import ModelRefused, Version
from workers.scoring.reopen import SIZE_LIMIT, reopen
from workers.scoring.resolver import LoadRequest, ModelQuery, Resolution, Resolver
from workers.scoring.session_cache import SessionCache, session_bytes
from workers.scoring.verification import VERIFICATION_LIMITS, VerificationLimits
from workers.scoring.verifier import Verifier

MODELS_AT_START: Final = 32
"""At most this many versions are verified before the first record is read. The others are verified
as they are used.
"""

_SCAN_SECONDS = 0.5
_JOIN_SECONDS = 5.0


class NoVerifiedModel(Failure):
    """An objective that a surface needs has no version that passes verification: the worker must
    not start.
    """


class RegistryFailed(Exception):
    """The models thread has ended by an error, which is the cause. No request is at fault."""


class LoadCounts(NamedTuple):
    """How often a version was verified, refused, loaded and evicted. `load_ns`: nanoseconds in which
    versions were loaded.
    """

    verified: int = 0
    refused: int = 0
    loads: int = 0
    evictions: int = 0
    load_ns: int = 0


class ModelCounts(NamedTuple):
    """Totals since the start.

    A hit is a micro-batch's query for models that were loaded, a miss one that was not answered
    with models.
    """

    hits: int
    misses: int
    swaps: int
    verified: int
    refused: int
    loads: int
    evictions: int
    bytes_loaded: int


@dataclass
class Loader:
    """Applies verdicts, and loads and evicts sessions, for the models thread.

    Not thread-safe, except for `counts`, which is replaced as a whole.
    """

    budget_bytes: int
    size_limit: int
    log: Callable[..., None]
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self.sessions = SessionCache(self.budget_bytes, self.clock)
        self.counts = LoadCounts()

    def apply_verdict(self, entry: CatalogueEntry, verdict: Verdict, load: bool) -> CatalogueEntry:
        """The entry with its verdict. Loaded if `load`, or if there is room for it."""
        if isinstance(verdict, Rejected):
            return self._refused(entry, verdict)

        self.counts = self.counts._replace(verified=self.counts.verified + 1)
        sha256 = verdict.manifest.sha256
        self.log("model_available", model=entry.version.name, sha256=sha256[:12])

        entry = replace(entry, verdict=verdict)
        fits = self.sessions.bytes + session_bytes(verdict.size) <= self.budget_bytes
        return self.load(entry) if load or fits else entry

    def load(self, entry: CatalogueEntry) -> CatalogueEntry:
        """A verified entry with its session. It is listed again if its files have changed since."""
        verified = entry.verified
        if verified is None:
            return entry

        cached = self.sessions.get(verified.session_key)
        if cached is None:
            began = time.perf_counter_ns()
            try:
                model = reopen(
                    entry.version.folder,
                    verified.manifest,
                    rows_per_call=verified.rows_per_call,
                    size_limit=self.size_limit,
                )
            except ModelRefused as refused:
                current = stamp(entry.version)
                if current != entry.stamp:
                    return CatalogueEntry(entry.version, current)
                return self._refused(entry, Rejected(refused.reason, refused.message))

            cached = self.sessions.put(verified.session_key, model.session, verified.size)
            self.counts = self.counts._replace(
                loads=self.counts.loads + 1,
                load_ns=self.counts.load_ns + time.perf_counter_ns() - began,
            )

        cached.holders.add(entry.version)
        return replace(entry, cached_session=cached)

    def release(self, version: Version) -> None:
        """A version is gone. Its session goes too, unless another version shares it."""
        for cached in list(self.sessions):
            cached.holders.discard(version)
            if not cached.holders:
                self.sessions.remove(cached)

    def evict(self, catalogue: Catalogue, keep: Collection[Version]) -> list[CatalogueEntry]:
        """Evict the least recently used sessions, but not those of the versions to `keep`.

        Returns the entries of the catalogue that have lost their session, without it.
        """
        kept = set[int]()
        for entry in catalogue:
            if entry.cached_session is not None and entry.version in keep:
                kept.add(id(entry.cached_session))

        evicted = self.sessions.evict(lambda cached: id(cached) in kept)
        if not evicted:
            return []
        self.counts = self.counts._replace(evictions=self.counts.evictions + len(evicted))

        without_session = list[CatalogueEntry]()
        for entry in catalogue:
            if entry.cached_session is not None and entry.cached_session in evicted:
                without_session.append(replace(entry, cached_session=None))
        return without_session

    def _refused(self, entry: CatalogueEntry, verdict: Rejected) -> CatalogueEntry:
        refused = replace(entry, verdict=verdict)
        self.counts = self.counts._replace(refused=self.counts.refused + 1)
        self.log("model_refused", model=str(refused.refusal))
        return refused


class Registry:
    """Every model in a folder.

    When entered, it has verified what the surfaces need, and its thread runs until the exit. Raises
    NoVerifiedModel when entered.

    `log` takes events and `on_change` each new catalogue. Both are called in the models thread, and
    at the start in the caller's. `budget_bytes` bounds the estimated size of what is loaded.
    `limits` bounds each verification.
    """

    def __init__(
        self,
        root: Path,
        surfaces: Surfaces,
        budget_bytes: int,
        log: Callable[..., None] = lambda event, **fields: None,
        on_change: Callable[[Catalogue], None] = lambda catalogue: None,
        size_limit: int = SIZE_LIMIT,
        limits: VerificationLimits = VERIFICATION_LIMITS,
    ) -> None:
        self._root = root
        self._surfaces = surfaces
        self._needed = feature_sets_by_objective(surfaces)
        self._log = log
        self._on_change = on_change

        self._folder = Folder(root)
        self._catalogue = Catalogue(0, {})
        self._changed = threading.Condition()
        self._inbox: queue.SimpleQueue[LoadRequest | Future[Verdict] | None] = queue.SimpleQueue()

        self._resolver = Resolver(self._inbox.put, log, time.monotonic)
        self._loader = Loader(budget_bytes, size_limit, log, time.monotonic)
        self._logged_errors: set[tuple[str, int, str, bool]] = set()

        self._verifier = Verifier(size_limit, limits)
        self._verification = ThreadPoolExecutor(1, "verification")
        self._verifying: CatalogueEntry | None = None

        # Requested versions that are not ready yet, and whether each is to be loaded too.
        self._requested: dict[Version, bool] = {}
        self._thread = threading.Thread(target=self._run, name="models", daemon=True)
        self._stopping = False
        self._failure: Exception | None = None

    # Called by the ranking loop

    def models_for(
        self,
        surface: Surface,
        objectives: Sequence[str],
        pins: Pinned = NO_PINS,
        arm: str = CONTROL,
    ) -> Resolution:
        """The models of a surface's feeds of one arm, in the order of `objectives`. Never waits.

        While another version is verified and loaded, the one in force goes on. Raises
        RegistryFailed.
        """
        if self._failure is not None:
            raise RegistryFailed(repr(self._failure)) from self._failure
        return self._resolver.resolve(self._catalogue, ModelQuery(surface, arm, objectives, pins))

    def note_errors(self, errors: Iterable[ModelError]) -> None:
        """Log how models failed: once for each version that fails on some row, and once if it fails
        on every row.
        """
        for error in errors:
            model = error.model
            key = (model.objective, model.version, model.sha256, error.features is None)
            if key not in self._logged_errors:
                self._logged_errors.add(key)
                self._log("model_error", **error.described())

    # Called by any thread

    @property
    def catalogue(self) -> Catalogue:
        """The current snapshot."""
        return self._catalogue

    @property
    def in_force(self) -> dict[str, dict[str, int]]:
        """Surface to objective to version: what scored its last feed outside of every arm, or would
        score its first.
        """
        scored = self._resolver.in_force
        available = self.available()
        in_force: dict[str, dict[str, int]] = {}
        for name, surface in self._surfaces.items():
            in_force[name] = dict(scored.get((name, CONTROL), {}))
            if not in_force[name]:
                for objective in surface.objectives:
                    if objective in available:
                        in_force[name][objective] = available[objective]
        return in_force

    def available(self) -> dict[str, int]:
        """Objective to its highest available version."""
        highest: dict[str, int] = {}
        for objective, versions in self._catalogue.entries.items():
            for number, entry in versions.items():
                if entry.is_available:
                    highest[objective] = number
                    break
        return highest

    def states(self) -> dict[str, dict[int, dict[str, str]]]:
        """Objective to version to its state, with the reason if it is refused, for JSON."""
        states: dict[str, dict[int, dict[str, str]]] = {}
        for objective, versions in self._catalogue.entries.items():
            states[objective] = {}
            for number, entry in versions.items():
                state = {"state": str(entry.state)}
                if entry.refusal is not None:
                    state["reason"] = str(entry.refusal.reason)
                    state["message"] = entry.refusal.message
                states[objective][number] = state
        return states

    @property
    def counts(self) -> ModelCounts:
        """Totals since the start."""
        loaded = self._loader.counts
        return ModelCounts(
            hits=self._resolver.hits,
            misses=self._resolver.misses,
            swaps=self._resolver.swaps,
            verified=loaded.verified,
            refused=loaded.refused,
            loads=loaded.loads,
            evictions=loaded.evictions,
            bytes_loaded=self._loader.sessions.bytes,
        )

    @property
    def load_seconds(self) -> float:
        """Seconds in which versions were loaded, added up."""
        return self._loader.counts.load_ns / 1e9

    @property
    def has_failed(self) -> bool:
        """Whether the models thread has ended by an error."""
        return self._failure is not None

    def request_verification(self, objective: str, version: int) -> None:
        """Request that a version be verified. The verdict appears in a later catalogue."""
        self._inbox.put(LoadRequest(objective, version, load=False))

    def wait_past(self, revision: int, timeout: float) -> bool:
        """Wait until the catalogue is past a revision. Returns False after `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._catalogue.revision > revision or bool(self._failure), timeout
            )

    # The start and the end

    def __enter__(self) -> "Registry":
        try:
            self._scan()
            self._verify_at_start()
        except BaseException:
            self._verifier.close()
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
        self._inbox.put(None)
        self._thread.join(_JOIN_SECONDS)
        self._verification.shutdown(wait=False, cancel_futures=True)
        self._verifier.close()

    def _verify_at_start(self) -> None:
        """Verify the highest version of each objective, first of those that a surface needs."""
        others = [name for name in self._catalogue.entries if name not in self._needed]
        left = MODELS_AT_START
        for objective in (*self._needed, *others):
            while left and (entry := self._catalogue.next_to_verify(objective)) is not None:
                verdict = self._verify(entry)
                self._put([self._loader.apply_verdict(entry, verdict, load=False)])
                left -= 1

        reasons = list[str]()
        for objective in self._needed:
            entries = self._catalogue.versions(objective).values()
            if not entries:
                folder = self._root / objective
                reasons.append(
                    f"objective {objective!r}: no version in {folder}, expected {folder / '1'}"
                )
            elif all(entry.state is VersionState.REFUSED for entry in entries):
                refusals = "; ".join(str(entry.refusal) for entry in entries)
                reasons.append(f"objective {objective!r}: no version verifies: {refusals}")
        if reasons:
            raise NoVerifiedModel("; ".join(reasons))

    # The models thread

    def _run(self) -> None:
        try:
            next_scan = time.monotonic() + _SCAN_SECONDS
            while not self._stopping:
                self._forget_fulfilled_requests()
                self._read_inbox(until=next_scan)
                self._load_smallest()

                if time.monotonic() >= next_scan:
                    if self._verifying is None:
                        self._verifier.stop_if_idle()
                    self._scan()
                    next_scan = time.monotonic() + _SCAN_SECONDS

                self._start_verification()
        except Exception as failure:
            # Models would never be swapped again. The loop raises this, and the worker ends.
            self._failure = failure
            with self._changed:
                self._changed.notify_all()
            raise

    def _forget_fulfilled_requests(self) -> None:
        """Keep only versions that have to be verified, or that are verified and have to be loaded."""
        for version, load in list(self._requested.items()):
            entry = self._catalogue.entry(version.objective, version.number)
            state = entry.state if entry is not None else VersionState.GONE
            waits_for_load = load and state is VersionState.AVAILABLE
            if state is not VersionState.LISTED and not waits_for_load:
                del self._requested[version]

    def _read_inbox(self, until: float) -> None:
        """Read all requests and verdicts that have come. Wait for the first one until `until`,
        unless there is something to load.
        """
        wait = 0.001
        if not self._requested_in(VersionState.AVAILABLE):
            wait = max(wait, until - time.monotonic())
        try:
            self._handle(self._inbox.get(timeout=wait))
            while True:
                self._handle(self._inbox.get_nowait())
        except queue.Empty:
            pass

    def _handle(self, message: LoadRequest | Future[Verdict] | None) -> None:
        if self._stopping or message is None:
            return
        if isinstance(message, Future):
            self._end_verification(message.result())
            return

        if message.version is None:
            entry = self._catalogue.highest_listed(message.objective)
        else:
            entry = self._catalogue.entry(message.objective, message.version)
        if entry is not None:
            load = message.load or self._requested.get(entry.version, False)
            self._requested[entry.version] = load

    def _requested_in(self, state: VersionState) -> list[CatalogueEntry]:
        """The requested entries in a state, first those that are to be loaded."""
        versions = sorted(self._requested, key=lambda version: not self._requested[version])
        entries = list[CatalogueEntry]()
        for version in versions:
            entry = self._catalogue.entry(version.objective, version.number)
            if entry is not None and entry.state is state:
                entries.append(entry)
        return entries

    def _load_smallest(self) -> None:
        """Load the smallest of the requested versions: it should not wait for the large ones."""
        available = self._requested_in(VersionState.AVAILABLE)
        to_load = [entry for entry in available if self._requested[entry.version]]
        if to_load and not self._stopping:
            smallest = min(to_load, key=lambda entry: entry.size)
            self._put([self._loader.load(smallest)])

    def _start_verification(self) -> None:
        """Start to verify a requested version, or the next one of an objective without any."""
        if self._verifying is not None or self._stopping:
            return

        self._verifying = self._next_to_verify()
        if self._verifying is not None:
            verdict = self._verification.submit(self._verify, self._verifying)
            verdict.add_done_callback(self._inbox.put)

    def _next_to_verify(self) -> CatalogueEntry | None:
        requested = self._requested_in(VersionState.LISTED)
        if requested:
            return requested[0]
        for objective in self._catalogue.entries:
            entry = self._catalogue.next_to_verify(objective)
            if entry is not None:
                return entry
        return None

    def _end_verification(self, verdict: Verdict) -> None:
        entry = self._verifying
        self._verifying = None
        if entry is None:
            return

        # Its folder may have gone in the meantime, and come again.
        current = self._catalogue.entry(entry.version.objective, entry.version.number)
        if entry is current:
            load = self._requested.get(entry.version, False)
            self._put([self._loader.apply_verdict(entry, verdict, load)])

    def _verify(self, entry: CatalogueEntry) -> Verdict:
        feature_sets = self._needed.get(entry.version.objective, ())
        return self._verifier.verify(entry.version.folder, feature_sets)

    def _scan(self) -> None:
        """Scan the models folder, and put what has changed into the catalogue."""
        in_force = set[tuple[str, int]]()
        for versions in self._resolver.in_force.values():
            in_force.update(versions.items())

        changes = changes_of(self._catalogue, self._folder.scan(), in_force)
        for version in changes.dropped:
            self._loader.release(version)
            self._log("model_gone", model=version.name)
        if changes.put or changes.dropped:
            self._put(changes.put, changes.dropped)

    def _put(self, entries: Collection[CatalogueEntry], dropped: Collection[Version] = ()) -> None:
        """Replace the catalogue. Whatever has to be evicted for these entries is evicted in the
        same step.
        """
        changed = self._catalogue.changed(entries, dropped)
        evicted = self._loader.evict(changed, keep={entry.version for entry in entries})
        with self._changed:
            self._catalogue = changed.changed(evicted) if evicted else changed
            self._changed.notify_all()
        self._on_change(self._catalogue)
