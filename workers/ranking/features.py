"""Feature sets: the ordered, named numbers that objective models read.

Values are packed at once to little-endian float32, so that no float object outlives its event.
"""

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from workers.ranking.refusal import CandidateReason, CandidateRefused

FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class FeatureSet:
    """`names` in order of position; `defaults` and `bounds` by name (absent: 0.0, unbounded).

    `absent_row` marks a candidate without features: no sound row holds a NaN. `default_row` is the
    row of a candidate of which nothing is known. Raises ValueError where a name stands twice, a
    default is not finite, or bounds are not `low <= high`.
    """

    name: str
    names: tuple[str, ...]
    defaults: Mapping[str, float] = field(default_factory=dict)
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    absent_row: bytes = field(init=False, repr=False, compare=False)
    default_row: bytes = field(init=False, repr=False, compare=False)
    _struct: struct.Struct = field(init=False, repr=False, compare=False)
    _low: NDArray[np.float32] = field(init=False, repr=False, compare=False)
    _high: NDArray[np.float32] = field(init=False, repr=False, compare=False)
    _filled: Mapping[str, float] = field(init=False, repr=False, compare=False)
    _pick: Callable[[Mapping[str, float]], tuple[float, ...]] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        self._check_names()
        self._check_numbers()
        limits = [self.bounds.get(n, (-FLOAT32_MAX, FLOAT32_MAX)) for n in self.names]
        object.__setattr__(self, "_struct", struct.Struct(f"<{len(self.names)}f"))
        object.__setattr__(self, "_low", np.array([low for low, _ in limits], np.float32))
        object.__setattr__(self, "_high", np.array([high for _, high in limits], np.float32))
        object.__setattr__(
            self, "_filled", {n: float(self.defaults.get(n, 0.0)) for n in self.names}
        )
        object.__setattr__(self, "absent_row", self._struct.pack(*[math.nan] * self.width))
        object.__setattr__(self, "default_row", self._struct.pack(*self._filled.values()))
        # A getter of one name gives a value, of several a tuple: the first name stands twice, and
        # is cut off.
        getter = itemgetter(self.names[0], *self.names)
        object.__setattr__(self, "_pick", lambda values: getter(values)[1:])

    def _check_names(self) -> None:
        if not self.names:
            raise ValueError("names: got no name, expected at least one")
        twice = sorted({n for n in self.names if self.names.count(n) > 1})
        if twice:
            raise ValueError(f"names: {twice[0]!r} stands more than once, expected each once")
        for table, keys in (("defaults", self.defaults), ("bounds", self.bounds)):
            unknown = sorted(set(keys) - set(self.names))
            if unknown:
                raise ValueError(f"{table}.{unknown[0]}: not a name of this feature set")

    def _check_numbers(self) -> None:
        for name, value in self.defaults.items():
            if not abs(value) <= FLOAT32_MAX:
                raise ValueError(f"defaults.{name}: got {value!r}, expected a finite float32")
        for name, (low, high) in self.bounds.items():
            if not -FLOAT32_MAX <= low <= high <= FLOAT32_MAX:
                raise ValueError(
                    f"bounds.{name}: got [{low!r}, {high!r}], expected finite [low, high]"
                )

    @property
    def width(self) -> int:
        """How many numbers a candidate has."""
        return len(self.names)

    def pack_positional(self, values: Sequence[float]) -> bytes:
        """`width` numbers to float32 bytes. Raises CandidateRefused: wrong count, not finite in
        float32.
        """
        try:
            row = self._struct.pack(*values)
        except OverflowError:
            raise self._out_of_range(values) from None
        except struct.error:
            raise self._wrong_count(len(values)) from None
        # Values in float32's range cannot overflow a float64 sum; nothing finite comes of a NaN or
        # an infinity.
        if not math.isfinite(sum(values)):
            raise self._out_of_range(values)
        return row

    def pack_named(self, values: Mapping[str, float]) -> tuple[bytes, int, int]:
        """Numbers by name to (float32 bytes, how many were missing, how many names were unknown)."""
        try:
            row, missing = self._pick(values), 0
        except KeyError:
            row = tuple(values.get(n, default) for n, default in self._filled.items())
            missing = sum(n not in values for n in self.names)
        return self.pack_positional(row), missing, len(values) - self.width + missing

    def pack_float32(self, raw: bytes) -> bytes:
        """Check that little-endian float32 bytes hold `width` finite numbers. Raises
        CandidateRefused.
        """
        if len(raw) != self._struct.size:
            if len(raw) % 4:
                raise CandidateRefused(
                    CandidateReason.FEATURE_COUNT,
                    f"features_f32: got {len(raw)} bytes, expected {self._struct.size} ({self.width} float32)",
                )
            raise self._wrong_count(len(raw) // 4)
        values = self._struct.unpack(raw)
        if not _all_finite(values):
            raise self._out_of_range(values)
        return raw

    def read_row(self, raw: bytes | None) -> bytes | None:
        """A value that was looked up, if it is a row: `width` finite numbers as little-endian
        float32.
        """
        try:
            return None if raw is None else self.pack_float32(raw)
        except CandidateRefused:
            return None

    def clip(self, matrix: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
        """Clip `[rows, width]` to the declared bounds; also how many numbers were outside."""
        if not self.bounds:
            return matrix, 0
        outside = int(np.count_nonzero((matrix < self._low) | (matrix > self._high)))
        return (np.clip(matrix, self._low, self._high), outside) if outside else (matrix, 0)

    def _wrong_count(self, got: int) -> CandidateRefused:
        return CandidateRefused(
            CandidateReason.FEATURE_COUNT,
            f"features: got {got} numbers, expected {self.width} (feature set {self.name!r})",
        )

    def _out_of_range(self, values: Sequence[float]) -> CandidateRefused:
        place, value = next((i, v) for i, v in enumerate(values) if not _fits_float32(v))
        return CandidateRefused(
            CandidateReason.FEATURE_RANGE,
            f"features[{place}] ({self.names[place]}): got {value!r}, expected a finite float32",
        )


def _all_finite(values: Sequence[float]) -> bool:
    # Values in float32's range cannot overflow a float64 sum; nothing finite comes of a NaN or an
    # infinity.
    return math.isfinite(sum(values))


def _fits_float32(value: float) -> bool:
    try:
        return math.isfinite(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return False
