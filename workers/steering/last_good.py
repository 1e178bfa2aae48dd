"""The last good mix of each surface, kept on disk over restarts: weights, pinned models, experiment
and arms.

One file a surface, replaced whole: workers of one host write it side by side, the latest wins. Not
synced to the disk: what a power cut spoils does not read back and is ignored.

The last good mixes on their way to the disk, in a thread of its own: a disk that stands still
delays no change.
"""

import os
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import quote

import msgspec

from workers.ranking.experiment import Experiment
from workers.ranking.mix import Mix
from workers.ranking.pins import AvailableModels, Pins, PinsRefused
from workers.ranking.surface import Surface
from workers.ranking.weights import WeightRules, Weights
from workers.steering.connection import Events


class LastGoodIgnored(Exception):
    """A file that must not be used; the message names the path and says why."""


class _Set(msgspec.Struct, frozen=True):
    version: str
    values: dict[str, float]

    @classmethod
    def of(cls, weights: Weights) -> Self:
        return cls(weights.version, dict(weights.values))

    def read(self, rules: WeightRules) -> Weights:
        if Weights.of(self.values).version != self.version:
            raise ValueError(f"version: got {self.version!r}, which is not that of the values")
        return rules.validate(self.values)


class _LastGood(msgspec.Struct, frozen=True):
    """`weights` is None where the surface's default is in force."""

    key: str
    weights: _Set | None
    experiment: dict[str, str] | None
    arms: dict[str, _Set]
    models: dict[str, int] = {}
    arm_models: dict[str, dict[str, int]] = {}


class Kept(NamedTuple):
    """A mix that was kept, and why its pins are left out, where they are: a pinned version may be
    gone by now.
    """

    mix: Mix
    without_pins: str | None = None


def path_of(home: Path, key: str) -> Path:
    """The file for the surface whose weights Redis holds under `key`."""
    return home / f"last-good-{quote(key, safe='')}.json"


def save(home: Path, key: str, mix: Mix, default: Weights) -> None:
    """Keep a mix. Raises OSError."""
    path = path_of(home, key)
    raw = msgspec.json.encode(_document(key, mix, default))
    home.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        unfinished.write_bytes(raw)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def load(home: Path, key: str, surface: Surface, available: AvailableModels) -> Kept | None:
    """The mix kept for `key`, valid for the surface; None where none was kept. Raises
    LastGoodIgnored.
    """
    path = path_of(home, key)
    try:
        return _read(path.read_bytes(), key, surface, available)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise LastGoodIgnored(f"{path}: {error}") from error


def _document(key: str, mix: Mix, default: Weights) -> _LastGood:
    return _LastGood(
        key,
        weights=None if mix.weights == default else _Set.of(mix.weights),
        experiment=None if mix.experiment is None else mix.experiment.fields(),
        arms={arm: _Set.of(weights) for arm, weights in mix.arms.items()},
        models=dict(mix.pins),
        arm_models={arm: dict(pins) for arm, pins in mix.arm_pins.items()},
    )


def _read(raw: bytes, key: str, surface: Surface, available: AvailableModels) -> Kept:
    kept = msgspec.json.decode(raw, type=_LastGood)
    if kept.key != key:
        raise ValueError(f"key: got {kept.key!r}, expected {key!r}")
    rules = surface.weight_rules.with_added(available.added(surface))
    weights = kept.weights.read(rules) if kept.weights else rules.default()
    arms = {arm: one.read(rules) for arm, one in kept.arms.items()}
    mix = Mix(weights, _experiment(kept.experiment, arms), arms)
    try:
        pins, arm_pins = _pins(kept.models, surface, available), {}
        for arm, models in kept.arm_models.items():
            arm_pins[arm] = _pins(models, surface, available)
    except PinsRefused as refused:
        return Kept(mix, str(refused))
    return Kept(replace(mix, pins=pins, arm_pins=arm_pins))


def _pins(
    models: Mapping[str, int], surface: Surface, available: AvailableModels
) -> Mapping[str, int]:
    return Pins.read(
        {objective: str(version) for objective, version in models.items()}, surface, available
    ).pinned


def _experiment(fields: Mapping[str, str] | None, arms: Mapping[str, Weights]) -> Experiment | None:
    experiment = None if fields is None else Experiment.read(fields)
    for arm in experiment.running if experiment else ():
        if arm not in arms:
            raise ValueError(f"arms: {arm} of the experiment is not among them")
    return experiment


_PAUSE_S = 0.1  # between a change and its copy: a storm of changes costs ten copies a second
_AGAIN_S = 1.0  # until a disk that could not be written to is tried again


class Keeper:
    """Has `keep` called after what was noted, and a last time at the end; it says whether all is
    kept.
    """

    def __init__(self, keep: Callable[[], bool], events: Events) -> None:
        self._keep = keep
        self._events = events
        self._noted = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="last-good", daemon=True)

    def start(self) -> None:
        """Begin. To be called once."""
        self._thread.start()

    def note(self) -> None:
        """Something has changed; returns at once."""
        self._noted.set()

    def stop(self, patience_s: float) -> None:
        """End; returns once all is kept, after `patience_s` seconds at the latest."""
        self._stopping.set()
        self._noted.set()
        if self._thread.is_alive():
            self._thread.join(patience_s)

    def _run(self) -> None:
        try:
            all_kept = True
            while not self._stopping.is_set():
                self._noted.wait(None if all_kept else _AGAIN_S)
                self._stopping.wait(_PAUSE_S)
                self._noted.clear()
                all_kept = self._keep()
            self._keep()
        except BaseException as error:
            self._events.say("steering_failed", error=repr(error))
            raise
