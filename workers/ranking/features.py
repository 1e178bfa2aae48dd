"""Feature sets: the ordered, named numbers that objective models read.

The features of a candidate are packed at once into a row: little-endian float32 bytes, one number
for each name. So no float object outlives its event.
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
    """The features of a surface, by name and in the order of their positions.

    - `defaults` and `bounds` are by name. Without one: 0.0, and no bounds.
    - `absent_row` marks a candidate that came without features. It is all NaN, which no valid row
      has.
    - `default_row` is the row of a candidate whose features are unknown.
    - `row_bytes` is the length of a row.
    - `pack_finite(*numbers)` is the row of finite numbers in order, without the errors that name
      what is wrong. Raises struct.error if they are not `width` numbers, and OverflowError if one
      is too large for float32.

    Raises ValueError if a name is given twice, a default is not finite, or bounds are not
    `low <= high`.
    """

    name: str
    names: tuple[str, ...]
    defaults: Mapping[str, float] = field(default_factory=dict)
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    absent_row: bytes = field(init=False, repr=False, compare=False)
    default_row: bytes = field(init=False, repr=False, compare=False)
    row_bytes: int = field(init=False, repr=False, compare=False)
    pack_finite: Callable[..., bytes] = field(init=False, repr=False, compare=False)

    _struct: struct.Struct = field(init=False, repr=False, compare=False)
    # Of a row as one little-endian integer.
    _exponent_bits: int = field(init=False, repr=False, compare=False)
    _lowest_exponent_bits: int = field(init=False, repr=False, compare=False)
    _sign_bits: int = field(init=False, repr=False, compare=False)
    # The bounds, `[features]`.
    _low: NDArray[np.float32] = field(init=False, repr=False, compare=False)
    _high: NDArray[np.float32] = field(init=False, repr=False, compare=False)
    # The default of every feature, in order.
    _all_defaults: Mapping[str, float] = field(init=False, repr=False, compare=False)
    # Picks the values of all features, in order, or raises KeyError.
    _pick: Callable[[Mapping[str, float]], tuple[float, ...]] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        self._check_names()
        self._check_numbers()

        row = struct.Struct(f"<{self.width}f")
        low = np.full(self.width, -FLOAT32_MAX, np.float32)
        high = np.full(self.width, FLOAT32_MAX, np.float32)
        all_defaults: dict[str, float] = {}
        for index, name in enumerate(self.names):
            all_defaults[name] = float(self.defaults.get(name, 0.0))
            if name in self.bounds:
                low[index], high[index] = self.bounds[name]

        # `object.__setattr__` because the class is frozen.
        object.__setattr__(self, "_struct", row)
        object.__setattr__(self, "_low", low)
        object.__setattr__(self, "_high", high)
        object.__setattr__(self, "_all_defaults", all_defaults)
        object.__setattr__(self, "row_bytes", row.size)
        object.__setattr__(self, "pack_finite", row.pack)
        object.__setattr__(self, "absent_row", row.pack(*[math.nan] * self.width))
        object.__setattr__(self, "default_row", row.pack(*all_defaults.values()))

        for bits, of_one_number in (
            ("_exponent_bits", 0x7F800000),
            ("_lowest_exponent_bits", 0x00800000),
            ("_sign_bits", 0x80000000),
        ):
            of_all_numbers = of_one_number.to_bytes(4, "little") * self.width
            object.__setattr__(self, bits, int.from_bytes(of_all_numbers, "little"))

        # A getter of one name returns a value, a getter of several a tuple. To always get a tuple,
        # the first name is given twice, and its first value is cut off.
        getter = itemgetter(self.names[0], *self.names)
        object.__setattr__(self, "_pick", lambda values: getter(values)[1:])

    def _check_names(self) -> None:
        if not self.names:
            raise ValueError("names: got no name, expected at least one")
        for name in sorted(self.names):
            if self.names.count(name) > 1:
                raise ValueError(f"names: {name!r} is given more than once, expected each once")

        for table, keys in (("defaults", self.defaults), ("bounds", self.bounds)):
            for name in sorted(keys):
                if name not in self.names:
                    raise ValueError(f"{table}.{name}: not a name of this feature set")

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

    # Into rows

    def pack_positional(self, values: Sequence[float]) -> bytes:
        """The row of `width` numbers in order. Raises CandidateRefused: wrong count, or not finite
        in float32.
        """
        try:
            row = self._struct.pack(*values)
        except OverflowError:
            raise self._out_of_range(values) from None
        except struct.error:
            raise self._wrong_count(len(values)) from None

        # Numbers in the range of float32 cannot overflow a float64 sum. And a sum with a NaN or an
        # infinity is not finite.
        if not math.isfinite(sum(values)):
            raise self._out_of_range(values)
        return row

    def pack_named(self, values: Mapping[str, float]) -> tuple[bytes, int, int]:
        """The row of numbers by name, how many were missing, and how many names are unknown.

        Raises CandidateRefused: not finite in float32.
        """
        missing = 0
        try:
            numbers = self._pick(values)
        except KeyError:
            numbers = tuple(
                values.get(name, default) for name, default in self._all_defaults.items()
            )
            missing = sum(name not in values for name in self.names)

        unknown = len(values) - (self.width - missing)
        return self.pack_positional(numbers), missing, unknown

    def pack_float32(self, raw: bytes) -> bytes:
        """Check that little-endian float32 bytes are a row: `width` finite numbers. Raises
        CandidateRefused.
        """
        if len(raw) != self._struct.size:
            if len(raw) % 4 == 0:
                raise self._wrong_count(len(raw) // 4)
            expected = f"expected {self._struct.size} ({self.width} float32)"
            raise CandidateRefused(
                CandidateReason.FEATURE_COUNT, f"features_f32: got {len(raw)} bytes, {expected}"
            )

        values = self._struct.unpack(raw)
        # See pack_positional.
        if not math.isfinite(sum(values)):
            raise self._out_of_range(values)
        return raw

    def read_row(self, raw: bytes | None) -> bytes | None:
        """A value that was looked up, if it is a row. Otherwise None."""
        if raw is None:
            return None
        try:
            return self.pack_float32(raw)
        except CandidateRefused:
            return None

    def are_finite(self, rows: bytes) -> bool:
        """Whether all numbers of these rows, of which there is at least one, are finite."""
        if len(rows) > self.row_bytes:
            return bool(np.isfinite(np.frombuffer(rows, "<f4")).all())

        # A number is not finite if all bits of its exponent are set. One more at the lowest of
        # these bits then carries into the bit of the sign, which was 0. For a single row this is
        # six times as fast as an array.
        exponents = int.from_bytes(rows, "little") & self._exponent_bits
        return not (exponents + self._lowest_exponent_bits) & self._sign_bits

    # For a model

    def clip(self, matrix: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
        """`[rows, width]` clipped to the bounds, and how many numbers were outside."""
        if not self.bounds:
            return matrix, 0
        outside = int(np.count_nonzero((matrix < self._low) | (matrix > self._high)))
        if outside == 0:
            return matrix, 0
        return np.clip(matrix, self._low, self._high), outside

    # Refusals

    def _wrong_count(self, got: int) -> CandidateRefused:
        return CandidateRefused(
            CandidateReason.FEATURE_COUNT,
            f"features: got {got} numbers, expected {self.width} (feature set {self.name!r})",
        )

    def _out_of_range(self, values: Sequence[float]) -> CandidateRefused:
        """The refusal of the first value that is not a finite float32. There must be one."""
        index = 0
        while _fits_float32(values[index]):
            index += 1
        return CandidateRefused(
            CandidateReason.FEATURE_RANGE,
            f"features[{index}] ({self.names[index]}): got {values[index]!r}, "
            "expected a finite float32",
        )


def _fits_float32(value: float) -> bool:
    try:
        (as_float32,) = struct.unpack("<f", struct.pack("<f", value))
    except OverflowError:
        return False
    return math.isfinite(as_float32)
