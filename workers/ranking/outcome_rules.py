"""What counts as an outcome on a surface: which kinds of interaction, and from which value on.

An interaction names its kind in the product's own words. A surface names the outcomes that it wants
counted. `seen` and `take` are always among them, and there may be others, good or bad.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

SEEN = "seen"
TAKE = "take"

SEEN_BIT = 1
TAKE_BIT = 2
MOST_OTHERS = 6
"""Outcomes beside `seen` and `take`. The outcomes of an item fit into one byte."""

LONGEST_WINDOW_S = 7 * 24 * 3600
KIND_CHARACTERS = 64
"""The longest name of a kind."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class OutcomeRule:
    """One named outcome: interactions of `kind`, if `at_least` is None or their value reaches it.

    Raises ValueError naming the key.
    """

    kind: str
    at_least: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.kind) <= KIND_CHARACTERS:
            raise ValueError(
                f"kind: got {self.kind[:80]!r}, expected 1 to {KIND_CHARACTERS} characters"
            )
        if self.at_least is not None and not math.isfinite(self.at_least):
            raise ValueError(f"at_least: got {self.at_least}, expected a finite number")


@dataclass(frozen=True)
class OutcomeRules:
    """The outcomes of one surface. Raises ValueError naming the key.

    `window_s` is how long after a feed its interactions count, in seconds. `seen` is None if every
    item at or above the lowest one with an outcome counts as seen ("above").
    """

    window_s: int
    seen: OutcomeRule | None
    take: OutcomeRule
    others: Mapping[str, OutcomeRule] = field(default_factory=dict)
    _bits: Mapping[str, tuple[tuple[float | None, int], ...]] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if not 1 <= self.window_s <= LONGEST_WINDOW_S:
            raise ValueError(
                f"window_s: got {self.window_s}, expected 1 to {LONGEST_WINDOW_S} seconds"
            )
        if len(self.others) > MOST_OTHERS:
            raise ValueError(
                f"others: got {len(self.others)} outcomes, expected at most {MOST_OTHERS}"
            )
        for name in self.others:
            if name in (SEEN, TAKE) or not _NAME.fullmatch(name):
                raise ValueError(
                    f"others.{name}: expected a name of 1 to 64 of A-Z, a-z, 0-9, _ and -, other"
                    f" than {SEEN!r} and {TAKE!r}"
                )

        named = {TAKE_BIT: self.take}
        if self.seen is not None:
            named[SEEN_BIT] = self.seen
        for place, rule in enumerate(self.others.values()):
            named[TAKE_BIT << (place + 1)] = rule

        bits: dict[str, tuple[tuple[float | None, int], ...]] = {}
        for bit, rule in named.items():
            bits[rule.kind] = (*bits.get(rule.kind, ()), (rule.at_least, bit))
        object.__setattr__(self, "_bits", bits)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the outcomes. The outcome at place n has the bit `1 << n`."""
        return (SEEN, TAKE, *self.others)

    def names_kind(self, kind: str) -> bool:
        """Whether some outcome of the surface is about interactions of this kind."""
        return kind in self._bits

    def bits_of(self, kind: str, value: float | None) -> int:
        """The outcomes that an interaction of this kind and value is, as bits; 0 if it is none.

        An item with any outcome counts as seen, so the bit of `seen` is then among them.
        """
        bits = 0
        for at_least, bit in self._bits.get(kind, ()):
            if at_least is None or (value is not None and value >= at_least):
                bits |= bit
        return bits | SEEN_BIT if bits else 0
