"""The plan of an experiment: the lift that it is tuned for, and its guard rails.

Rules:
1. A plan belongs to the experiment that has the same salt. It says nothing about any other.
2. A plan is read as a whole or refused as a whole.
3. A guard rail is a sentence: `take_rate >= -2%`. A bound with a sign and a percent sign is relative
   to control. A bound without a sign is absolute, as a number or in percent.

| metric                        | what it is                                         |
|-------------------------------|----------------------------------------------------|
| `take_rate`                   | takes / items seen                                 |
| `deadline`                    | feeds that closed at their deadline / feeds        |
| name of another outcome       | its count / items seen                             |
| name of an objective          | its mean score: sum of the scores / items          |
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

TAKE_RATE = "take_rate"
DEADLINE = "deadline"
BUILT_IN_METRICS = (TAKE_RATE, DEADLINE)
"""The metrics that every surface with outcomes has."""

MOST_RAILS = 10
DEFAULT_TUNED_FOR = 0.10
"""The lift that an experiment without a plan is tuned for, as a fraction."""
_LEAST_TUNED_FOR = 0.001
_MOST_TUNED_FOR = 1.0

SALT = "salt"
TUNED_FOR = "tuned_for"

_GUARD_FIELD = re.compile(r"guard:([1-9][0-9]?)")
_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{0,12})?|\.[0-9]{1,12}"
_RAIL = re.compile(rf"\s*([^\s<>=%]+)\s*(>=|<=)\s*([+-]?)({_NUMBER})\s*(%?)\s*")
_TUNED_FOR = re.compile(rf"\s*({_NUMBER})\s*%?\s*")


class PlanRefused(ValueError):
    """A plan that must not be applied. The message names the field, the value and what was
    expected.
    """


class Comparison(StrEnum):
    """Which side of its bound a metric must be on."""

    AT_LEAST = ">="
    AT_MOST = "<="


@dataclass(frozen=True)
class GuardRail:
    """A bound that no arm may break. Raises PlanRefused.

    `bound` is a fraction of control's value to add to it if `is_relative` (-0.02: 2 % less than
    control), otherwise the value itself.
    """

    metric: str
    comparison: Comparison
    bound: float
    is_relative: bool

    def __post_init__(self) -> None:
        if self.is_relative and not self.bound > -1:
            raise PlanRefused(
                f"guard: {self.metric}: got a bound of {self.bound:+.10g} of control, expected more than"
                " -100 %"
            )
        if not self.is_relative and not self.bound > 0:
            raise PlanRefused(
                f"guard: {self.metric}: got a bound of {self.bound:g}, expected more than 0, or a"
                " percentage with a sign, which is relative to control"
            )
        if not self.is_relative and self.metric in BUILT_IN_METRICS:
            _check_is_rate(self.metric, self.bound)

    @classmethod
    def parse(cls, text: str) -> "GuardRail":
        """Read a sentence such as `hide <= +10%` or `quality >= 0.5`. Raises PlanRefused."""
        match = _RAIL.fullmatch(text)
        if match is None:
            raise PlanRefused(
                f"guard: got {text[:80]!r}, expected METRIC >= BOUND or METRIC <= BOUND, such as"
                " 'take_rate >= -2%' (relative to control) or 'quality >= 0.5'"
            )

        metric, comparison, sign, number, percent = match.groups()
        if sign and not percent:
            raise PlanRefused(
                f"guard: got {text[:80]!r}, expected a bound without a sign, or with a percent sign"
                " if it is relative to control"
            )

        bound = Decimal(sign + number)
        if percent:
            bound /= 100
        # Adding 0 turns -0 into 0.
        return cls(metric, Comparison(comparison), float(bound) + 0.0, is_relative=bool(sign))

    @property
    def text(self) -> str:
        """The sentence that reads back as this rail."""
        if self.is_relative:
            bound = f"{'+' if self.bound >= 0 else ''}{_percent(self.bound)}%"
        elif self.metric in BUILT_IN_METRICS:
            bound = f"{_percent(self.bound)}%"
        else:
            bound = f"{Decimal(repr(self.bound)).normalize():f}"
        return f"{self.metric} {self.comparison} {bound}"


@dataclass(frozen=True)
class Plan:
    """What was decided before the experiment with this salt started. Raises PlanRefused.

    `tuned_for` is the lift, as a fraction, at which the verdict needs the least traffic. It decides
    nothing else: any lift is found in time. It is also tau, the standard deviation of the normal
    mixture on the log scale (`statistics.py`), because the log of a small lift is the lift.
    """

    salt: str
    tuned_for: float = DEFAULT_TUNED_FOR
    rails: tuple[GuardRail, ...] = ()

    def __post_init__(self) -> None:
        if not self.salt:
            raise PlanRefused(f"{SALT}: got nothing, expected the salt of the experiment")
        check_tuned_for(self.tuned_for)
        if len(self.rails) > MOST_RAILS:
            raise PlanRefused(
                f"guard: got {len(self.rails)} guard rails, expected at most {MOST_RAILS}"
            )

        known = set[tuple[str, Comparison, bool]]()
        for rail in self.rails:
            kind = (rail.metric, rail.comparison, rail.is_relative)
            if kind in known:
                raise PlanRefused(
                    f"guard: got {rail.text!r} beside another one of {rail.metric!r} of the same"
                    " kind, expected one"
                )
            known.add(kind)

    @classmethod
    def read(cls, fields: Mapping[str, str]) -> "Plan":
        """Read the fields of the hash: `salt`, `tuned_for` in percent, `guard:1`, `guard:2` and so
        on. Raises PlanRefused.
        """
        if SALT not in fields:
            raise PlanRefused(f"{SALT}: not given, expected the salt of the experiment")

        tuned_for = DEFAULT_TUNED_FOR
        numbered: dict[int, GuardRail] = {}
        for name, value in fields.items():
            guard = _GUARD_FIELD.fullmatch(name)
            if guard is not None:
                numbered[int(guard[1])] = GuardRail.parse(value)
            elif name == TUNED_FOR:
                tuned_for = read_tuned_for(value)
            elif name != SALT:
                raise PlanRefused(
                    f"{name[:80]}: not a field of a plan, expected {SALT}, {TUNED_FOR}, or guard:1,"
                    " guard:2 and so on"
                )
        rails = tuple(numbered[number] for number in sorted(numbered))
        return cls(fields[SALT], tuned_for, rails)

    def fields(self) -> dict[str, str]:
        """The fields of the hash."""
        fields = {SALT: self.salt, TUNED_FOR: _percent(self.tuned_for)}
        for number, rail in enumerate(self.rails, 1):
            fields[f"guard:{number}"] = rail.text
        return fields

    def check_metrics(self, objectives: Collection[str], others: Collection[str]) -> None:
        """Raise PlanRefused if a rail is about something that the surface does not have.

        `objectives` are the names of the surface's objectives, `others` those of its outcomes beside
        `seen` and `take`.
        """
        for rail in self.rails:
            meanings = 0
            for names in (BUILT_IN_METRICS, objectives, others):
                meanings += rail.metric in names
            if meanings == 0:
                known = ", ".join([*BUILT_IN_METRICS, *sorted({*objectives, *others})])
                raise PlanRefused(f"guard: got {rail.metric[:80]!r}, expected one of: {known}")
            if meanings > 1:
                raise PlanRefused(
                    f"guard: got {rail.metric!r}, which names several things on this surface,"
                    " expected a name that objectives and outcomes do not share"
                )
            if rail.metric in others and not rail.is_relative:
                _check_is_rate(rail.metric, rail.bound)


def read_tuned_for(text: str) -> float:
    """Read a lift in percent, with or without the percent sign, as a fraction. Raises PlanRefused."""
    match = _TUNED_FOR.fullmatch(text)
    if match is None:
        raise PlanRefused(f"{TUNED_FOR}: got {text[:80]!r}, expected a percentage such as 5%")
    fraction = float(Decimal(match[1]) / 100)
    check_tuned_for(fraction)
    return fraction


def check_tuned_for(fraction: float) -> None:
    """Raise PlanRefused if no experiment can be tuned for this lift."""
    if not _LEAST_TUNED_FOR <= fraction <= _MOST_TUNED_FOR:
        raise PlanRefused(
            f"{TUNED_FOR}: got {fraction * 100:g} %, expected"
            f" {_LEAST_TUNED_FOR * 100:g} to {_MOST_TUNED_FOR * 100:g} %"
        )


def _check_is_rate(metric: str, bound: float) -> None:
    if bound > 1:
        raise PlanRefused(
            f"guard: {metric}: got a bound of {bound:g}, expected at most 1, because it is a rate"
            " (5% is 0.05)"
        )


def _percent(fraction: float) -> str:
    """A fraction in percent, in the shortest form that reads back as the same float64."""
    return f"{(Decimal(repr(fraction)) * 100).normalize():f}"
