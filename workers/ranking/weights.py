"""Weights: the numbers that steer the mix, validated whole and versioned by their content.

The one place that judges a set of weights, for workers and tools alike.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_LIMIT = (
    1e12  # a weight of this size times the largest float32 is still far from float64's overflow
)


class WeightsRefused(ValueError):
    """A set that must not be applied: the message names the field, the value and what was expected."""


@dataclass(frozen=True)
class Weights:
    """One immutable set: objective to weight, in the surface's order of objectives.

    `version` is the first 12 hex digits of SHA-256 over the canonical set (a JSON object with
    sorted keys, no spaces, each weight in the shortest form that reads back as the same float64):
    the same on every worker.
    """

    values: Mapping[str, float]
    version: str

    @classmethod
    def of(cls, values: Mapping[str, float]) -> "Weights":
        """Build a set and derive its version. Raises WeightsRefused where a weight is not finite."""
        for objective, value in values.items():
            if not math.isfinite(value):
                raise WeightsRefused(f"{objective}: got {value!r}, expected a finite number")
        # Adding 0.0 turns -0.0 into 0.0: equal sets have equal versions.
        canonical = {objective: float(value) + 0.0 for objective, value in values.items()}
        text = json.dumps(canonical, sort_keys=True, separators=(",", ":"))
        return cls(canonical, hashlib.sha256(text.encode()).hexdigest()[:12])


@dataclass(frozen=True)
class WeightRules:
    """What makes a set valid on a surface: its objectives in order, their defaults and their
    bounds.

    `added` may be weighted beside them, and are in a set only where it names them: after the
    others, in this order. Raises ValueError where a default is missing, unknown or outside its
    bounds.
    """

    defaults: Mapping[str, float]
    bounds: Mapping[str, tuple[float, float]]
    added: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for objective in self.bounds:
            if objective not in self.defaults:
                raise ValueError(f"weight_bounds.{objective}: not an objective of this surface")
        for objective, (low, high) in self.bounds.items():
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise ValueError(
                    f"weight_bounds.{objective}: got [{low}, {high}], expected finite [low, high]"
                )
        for objective, value in self.defaults.items():
            try:
                self._check_bounds(objective, value)
            except WeightsRefused as refused:
                raise ValueError(f"weights.{refused}") from None

    def default(self) -> Weights:
        """The surface's own set."""
        return Weights.of(self.defaults)

    def validate(self, fields: Mapping[str, str | float]) -> Weights:
        """Judge a set whole; a missing field takes its default. Raises WeightsRefused."""
        unknown = sorted(set(fields) - set(self.defaults) - set(self.added))
        if unknown:
            known = ", ".join([*self.defaults, *self.added])
            raise WeightsRefused(
                f"{unknown[0]}: not an objective of this surface, expected one of: {known}"
            )
        values = {
            o: self._read(o, fields[o]) if o in fields else d for o, d in self.defaults.items()
        }
        return Weights.of(values | {o: self._read(o, fields[o]) for o in self.added if o in fields})

    def with_added(self, objectives: tuple[str, ...]) -> "WeightRules":
        """These rules, with objectives that may be weighted beside the declared ones."""
        return replace(self, added=objectives) if objectives != self.added else self

    def _read(self, objective: str, raw: str | float) -> float:
        if isinstance(raw, str) and not _NUMBER.fullmatch(raw):
            raise WeightsRefused(
                f"{objective}: got {raw[:80]!r}, expected a finite number such as 0.7"
            )
        return self._check_bounds(objective, float(raw))

    def _check_bounds(self, objective: str, value: float) -> float:
        low, high = self.bounds.get(objective, (-_LIMIT, _LIMIT))
        if not math.isfinite(value):
            raise WeightsRefused(f"{objective}: got {value!r}, expected a finite number")
        if not low <= value <= high:
            raise WeightsRefused(f"{objective}: got {value!r}, expected {low!r} to {high!r}")
        return value
