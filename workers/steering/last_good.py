"""The last good values of each surface's documents, kept on disk over restarts.

Rules:
- One file a surface, replaced as a whole. Workers of one host write it side by side: the latest
  wins.
- Files are not synced to the disk. What a power cut damages does not read back, and is ignored.
- A thread of its own writes them: a disk that hangs delays no change. It begins 0.1 s after a
  change, and writes what is in force then.
- A file that is not valid for the surface any more is ignored, and logged. Pins that are not valid
  are left out: the rest of the file is used.
"""

import os
import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec

from workers.ranking.pins import AvailableModels
from workers.ranking.surface import Surface
from workers.ranking.weights import Weights
from workers.steering.connection import Events
from workers.steering.documents import (
    FOLLOWED_KINDS,
    WEIGHTS,
    DocumentId,
    DocumentKind,
    ReadContext,
)
from workers.steering.keys import Keys
from workers.steering.surface_state import SurfaceState

Values = Mapping[DocumentId, Any]
"""The value of every document that is in force."""

_PAUSE_S: Final = 0.1  # between a change and its file: many changes at once cost ten files a second
_RETRY_S: Final = 1.0  # until a disk that could not be written to is tried again


class LastGoodIgnored(Exception):
    """A file that must not be used. The message names the path and says why."""


class _WeightsInFile(msgspec.Struct, frozen=True):
    version: str
    values: dict[str, float]


class LastGoodFile(msgspec.Struct, frozen=True):
    """The file, field by field; documents.py says which kind stands in which.

    `weights` is null if the surface's default is in force. Arms are keys of `arms` and
    `arm_models`.
    """

    key: str
    weights: _WeightsInFile | None
    experiment: dict[str, str] | None
    arms: dict[str, _WeightsInFile]
    models: dict[str, int] = {}
    arm_models: dict[str, dict[str, int]] = {}


class LastGood(NamedTuple):
    """What was kept. `left_out` says which documents are not used, and why."""

    values: Values
    left_out: tuple[str, ...] = ()


def path_of(home: Path, key: str) -> Path:
    """The file of the surface whose weights Redis holds under `key`."""
    return home / f"last-good-{quote(key, safe='')}.json"


def file_of(key: str, values: Values, default: Weights) -> LastGoodFile:
    """The file that keeps these values. `default` are the weights that need not be kept."""
    # These fields are required when a file is read. Those of later kinds have a default.
    fields: dict[str, object] = {"key": key, "weights": None, "experiment": None}
    arms: dict[str, dict[str, object]] = {"arms": {}}

    for (kind, arm), value in values.items():
        row = kind.followed.last_good
        if arm is not None and row.arms is not None:
            arms.setdefault(row.arms, {})[arm] = row.encode(value)
        elif kind is not WEIGHTS or value != default:
            fields[row.own] = row.encode(value)

    return msgspec.convert({**fields, **arms}, type=LastGoodFile)


def save(home: Path, file: LastGoodFile) -> None:
    """Write the file in the place of the one before. Raises OSError."""
    path = path_of(home, file.key)
    home.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        unfinished.write_bytes(msgspec.json.encode(file))
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def load(home: Path, key: str, surface: Surface, available: AvailableModels) -> LastGood | None:
    """What was kept for `key` and is valid for the surface; None if there is no file. Raises
    LastGoodIgnored.
    """
    path = path_of(home, key)
    try:
        file = msgspec.json.decode(path.read_bytes(), type=LastGoodFile)
        return _read(file, key, ReadContext(surface, available))
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise LastGoodIgnored(f"{path}: {error}") from error


def _read(file: LastGoodFile, key: str, context: ReadContext) -> LastGood:
    """The values in the file. Raises ValueError if one is not valid and must not be left out, or if
    the file is that of another key.
    """
    if file.key != key:
        raise ValueError(f"key: got {file.key!r}, expected {key!r}")
    values: dict[DocumentId, Any] = {}
    left_out = list[str]()

    for kind in FOLLOWED_KINDS:
        # An experiment needs the weights of its arms, which are among the values by then.
        armed = [arm for (value_kind, arm) in values if value_kind is WEIGHTS and arm is not None]
        context = context._replace(arms_with_weights=frozenset(armed))

        try:
            values |= _read_kind(kind, file, context)
        except kind.refusal as refusal:
            if not kind.followed.last_good.may_be_left_out:
                raise
            left_out.append(f"{kind.name}: {refusal}")

    return LastGood(values, tuple(left_out))


def _read_kind(
    kind: DocumentKind[Any], file: LastGoodFile, context: ReadContext
) -> dict[DocumentId, Any]:
    row = kind.followed.last_good
    fields = msgspec.to_builtins(file)
    kept = {DocumentId(kind): fields[row.own]}
    if row.arms is not None:
        for arm, encoded in fields[row.arms].items():
            kept[DocumentId(kind, arm)] = encoded

    values: dict[DocumentId, Any] = {}
    for document, encoded in kept.items():
        value = row.decode(encoded, context)
        if value is not None:
            values[document] = value
    return values


class _Saved(NamedTuple):
    state: SurfaceState
    file: LastGoodFile


class LastGoodStore:
    """Loads the files at the start, and writes them in a thread of its own.

    `states` gives the state of every surface, as an immutable mapping.
    """

    def __init__(
        self,
        home: Path,
        keys: Keys,
        surfaces: Mapping[str, Surface],
        events: Events,
        states: Callable[[], Mapping[str, SurfaceState]],
    ) -> None:
        self._home = home
        self._keys = keys
        self._surfaces = surfaces
        self._events = events
        self._states = states
        self._saved: dict[str, _Saved] = {}

        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="last-good", daemon=True)

    def load(self, available: AvailableModels) -> dict[str, Values]:
        """The values that were kept, by surface. What must not be used is logged and ignored."""
        loaded: dict[str, Values] = {}
        for name, surface in self._surfaces.items():
            try:
                kept = load(self._home, self._key(name), surface, available)
            except LastGoodIgnored as ignored:
                self._events.emit("last_good_ignored", surface=name, reason=str(ignored))
                continue

            if kept is not None:
                loaded[name] = kept.values
                for reason in kept.left_out:
                    self._events.emit("last_good_ignored", surface=name, reason=reason)
        return loaded

    def start(self) -> None:
        """Begin to write what changes from now on. To be called once."""
        for name, state in self._states().items():
            self._saved[name] = _Saved(state, self._file_of(name, state))
        self._thread.start()

    def save_soon(self) -> None:
        """Something has changed. Returns at once."""
        self._changed.set()

    def stop(self, timeout_s: float) -> None:
        """End the thread. Returns once everything is written, after `timeout_s` seconds at the
        latest.
        """
        self._stopping.set()
        self._changed.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            all_saved = True
            while not self._stopping.is_set():
                self._changed.wait(None if all_saved else _RETRY_S)
                self._stopping.wait(_PAUSE_S)
                self._changed.clear()
                all_saved = self._save_changed()

            self._save_changed()
        except BaseException as error:
            self._events.emit("steering_failed", error=repr(error))
            raise

    def _save_changed(self) -> bool:
        """Write the files that differ from what was written last. Returns whether all could be
        written.
        """
        problem = None
        for name, state in self._states().items():
            saved = self._saved[name]
            if state is saved.state:
                continue

            file = self._file_of(name, state)
            try:
                if file != saved.file:
                    save(self._home, file)
            except OSError as error:
                problem = str(error)
                continue
            self._saved[name] = _Saved(state, file)

        self._events.emit_if_new("last_good_unwritable", problem)
        return problem is None

    def _file_of(self, name: str, state: SurfaceState) -> LastGoodFile:
        default = self._surfaces[name].weight_rules.default()
        return file_of(self._key(name), state.values, default)

    def _key(self, name: str) -> str:
        return self._keys.document(name, WEIGHTS)
