"""The decision table at the head of resolver.py, row by row, on catalogues made by hand."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.scoring.building import FEATURES, WIDE, manifest_of
from workers.ranking.features import FeatureSet
from workers.scoring.catalogue import (
    Catalogue,
    CatalogueEntry,
    FileStamp,
    Rejected,
    Verdict,
    Verified,
)
from workers.scoring.manifest import Manifest
from workers.scoring.refusal import ModelReason, Version
from workers.scoring.resolver import LoadRequest, VersionChoice, choose_version
from workers.scoring.session_cache import CachedSession

NARROW = FeatureSet("narrow", FEATURES[:31])


def entry(number: int, state: str) -> CatalogueEntry:
    """A version in a state, as the catalogue would hold it. `gone` is still loaded."""
    manifest = msgspec.convert(manifest_of(b"", version=number), Manifest)
    verified = Verified(manifest, rows_per_call=1, size=1)
    verdicts: dict[str, Verdict | None] = {
        "listed": None,
        "refused": Rejected(ModelReason.HASH, "another file"),
    }
    session: Any = None
    cached = None
    if state in ("loaded", "gone"):
        cached = CachedSession(verified.session_key, session, bytes=1, loaded_at=0.0)
    return CatalogueEntry(
        version=Version("quality", number, Path(str(number))),
        stamp=FileStamp(None, None),
        verdict=verdicts.get(state, verified),
        cached_session=cached,
        listed=state != "gone",
    )


def choose(
    states: dict[int, str],
    pin: int | None = None,
    in_force: int | None = None,
    feature_set: FeatureSet = WIDE,
) -> VersionChoice:
    """The choice for versions in these states."""
    entries = [entry(number, state) for number, state in states.items()]
    catalogue = Catalogue(0, {}).changed(entries)
    for each in catalogue:
        assert each.state == states[each.version.number]
    return choose_version(catalogue, "quality", feature_set, pin, in_force)


def outcome(choice: VersionChoice) -> tuple[int | None, int | str | None, bool]:
    """What scores now, what is requested, and whether the pin cannot be met."""
    scores = choice.entry.version.number if choice.entry is not None else None
    requested: int | str | None = None
    if choice.request is not None:
        assert choice.request.load
        requested = choice.request.version or "highest verified"
    return scores, requested, choice.pin_unmet


@pytest.mark.parametrize(
    ("states", "pin", "in_force", "expected"),
    [
        ({1: "listed", 2: "loaded"}, 1, 2, (2, 1, False)),
        ({1: "listed", 2: "loaded"}, 1, None, (None, 1, False)),
        ({1: "loaded", 2: "loaded"}, 1, 2, (1, None, False)),
        ({1: "gone", 2: "loaded"}, 1, 2, (1, None, False)),
        ({1: "available", 2: "loaded"}, 1, 2, (2, 1, False)),
        ({1: "available", 2: "loaded"}, 1, None, (None, 1, False)),
        ({1: "refused", 2: "loaded", 3: "loaded"}, 1, 2, (2, None, True)),
        ({2: "gone", 3: "loaded"}, 1, 2, (2, None, True)),
    ],
    ids=[
        "a pin that is not verified waits, and the current version goes on",
        "a pin that is not verified waits, and so do the requests",
        "a pin that is loaded scores",
        "a pin that is loaded scores, even if its folder is gone",
        "a pin that is not loaded waits, and the current version goes on",
        "a pin that is not loaded waits, and so do the requests",
        "a refused pin leaves the current version in force",
        "an unknown pin leaves the current version in force, even if its folder is gone",
    ],
)
def test_a_pin_decides_if_it_can_be_met(
    states: dict[int, str],
    pin: int,
    in_force: int | None,
    expected: tuple[int | None, int | None, bool],
) -> None:
    assert outcome(choose(states, pin, in_force)) == expected


@pytest.mark.parametrize("pin", [None, 9], ids=["without a pin", "with an unknown pin"])
@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ({1: "loaded", 2: "loaded", 3: "refused"}, (2, None)),
        ({1: "loaded", 2: "available", 3: "listed"}, (None, 2)),
        ({1: "listed", 2: "listed", 3: "refused"}, (None, "highest verified")),
        ({1: "refused"}, (None, None)),
        ({}, (None, None)),
    ],
    ids=["loaded", "available", "not verified yet", "refused", "no version"],
)
def test_the_highest_version_scores_if_none_is_in_force(
    states: dict[int, str], expected: tuple[int | None, int | str | None], pin: int | None
) -> None:
    choice = choose(states, pin)
    assert outcome(choice) == (*expected, pin is not None)
    assert (choice.lacking is not None) == (expected == (None, None))


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ({1: "loaded", 2: "loaded"}, (2, None)),
        ({1: "loaded", 2: "available"}, (1, 2)),
        ({1: "gone", 2: "listed"}, (1, "highest verified")),
        ({1: "gone", 2: "refused"}, (1, None)),
    ],
    ids=["loaded", "available", "not verified yet", "refused"],
)
def test_without_a_pin_the_current_version_goes_on_until_the_highest_is_loaded(
    states: dict[int, str], expected: tuple[int, int | str | None]
) -> None:
    assert outcome(choose(states, in_force=1)) == (*expected, False)


@pytest.mark.parametrize("pin", [None, 1])
def test_a_version_that_reads_features_which_the_feature_set_lacks_never_scores(
    pin: int | None,
) -> None:
    choice = choose({1: "loaded"}, pin, in_force=1, feature_set=NARROW)
    assert outcome(choice) == (None, None, pin is not None)
    assert choice.lacking is not None
    assert "1 reads features that 'narrow' does not hold" in choice.lacking


def test_a_request_names_the_version_or_none_for_the_highest_that_verifies() -> None:
    assert choose({1: "available"}).request == LoadRequest("quality", 1, load=True)
    assert choose({1: "listed"}).request == LoadRequest("quality", None, load=True)
