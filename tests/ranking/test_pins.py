"""Pins: which models may be in force, and which objectives may be weighted beside the declared
ones.
"""

import pytest

from tests.builders import HOME
from workers.ranking.pins import ANY_VERSION, AvailableModels, Pins, PinsRefused, named_versions
from workers.ranking.version import MAX_VERSION

AVAILABLE = AvailableModels(
    {
        "quality": {1: frozenset("ab"), 2: frozenset("a")},
        "freshness": {1: frozenset("b")},
        "stranger": {1: frozenset("z")},
    }
)


def test_an_available_version_may_be_pinned_and_latest_is_not_a_pin() -> None:
    pins = Pins.read({"quality": "2", "engagement": "latest", "freshness": "1"}, HOME, AVAILABLE)
    assert pins.versions == {"quality": 2, "engagement": None, "freshness": 1}
    assert pins.pinned == {"quality": 2, "freshness": 1}
    assert Pins.read(pins.fields(), HOME, AVAILABLE) == pins


REFUSED = {
    "a version that is not there": (
        {"quality": "3"},
        "quality: version 3 is not available, expected one of: 1, 2",
    ),
    "an objective without a model": (
        {"engagement": "1"},
        "engagement: version 1 is not available, expected one of: none",
    ),
    "an unknown objective": (
        {"clicks": "1"},
        "clicks: not an objective of this surface with a model",
    ),
    "a model whose features are not held": (
        {"stranger": "1"},
        "stranger: not an objective of this surface",
    ),
    "no number": (
        {"quality": "newest"},
        "quality: got 'newest', expected the number of a version, or 'latest'",
    ),
    "a number with a sign": ({"quality": "+1"}, "quality: got '+1'"),
    "version zero": ({"quality": "0"}, "quality: got '0'"),
    "a leading zero": ({"quality": "01"}, "quality: got '01'"),
    "other digits": ({"quality": "²"}, "quality: got '²'"),
    "digits of another script": ({"quality": "٣"}, "quality: got '٣'"),
    "one past 64 bits": (
        {"quality": str(MAX_VERSION + 1)},
        f"versions are from 1 to {MAX_VERSION}",
    ),
    "a time with microseconds": (
        {"quality": "20261127031249123456"},
        "quality: got '20261127031249123456'",
    ),
    "thousands of digits": ({"quality": "5" * 5000}, f"versions are from 1 to {MAX_VERSION}"),
}


@pytest.mark.parametrize(("fields", "message"), REFUSED.values(), ids=REFUSED)
def test_pins_that_no_worker_could_score_with_are_refused_as_a_whole(
    fields: dict[str, str], message: str
) -> None:
    with pytest.raises(PinsRefused) as refused:
        Pins.read({"quality": "1"} | fields, HOME, AVAILABLE)
    assert message in str(refused.value)


def test_if_the_models_are_unknown_every_version_of_a_declared_objective_passes() -> None:
    assert Pins.read({"quality": "7"}, HOME, ANY_VERSION).pinned == {"quality": 7}


@pytest.mark.parametrize("version", [1, 9_999_999_999, 20261127031249, 2**53 + 1, MAX_VERSION])
def test_every_version_that_64_bits_hold_can_be_pinned_and_reads_back(version: int) -> None:
    available = AvailableModels({"quality": {version: frozenset()}})
    pins = Pins.read({"quality": str(version)}, HOME, available)
    assert pins.pinned == {"quality": version}
    assert pins.fields() == {"quality": str(version)}
    assert named_versions(pins.fields()) == [("quality", version)]


def test_a_text_that_is_not_a_version_names_none() -> None:
    odd = ["0", "01", "+1", "-1", "²", "1.0", " 1", "", str(MAX_VERSION + 1), "5" * 5000]
    assert named_versions({f"o{place}": text for place, text in enumerate(odd)}) == []


def test_objectives_whose_models_read_only_the_surfaces_features_may_be_weighted_after_the_declared_ones() -> (
    None
):
    assert AVAILABLE.objectives(HOME) == ("quality", "engagement", "freshness")
    rules = HOME.weight_rules.with_added(AVAILABLE.added_objectives(HOME))
    assert list(rules.validate({"freshness": "0.25", "quality": "1"}).values) == [
        "quality",
        "engagement",
        "freshness",
    ]
    assert list(rules.validate({"quality": "1"}).values) == ["quality", "engagement"]


def test_the_versions_that_a_document_names_are_found_even_if_it_is_invalid() -> None:
    assert named_versions({"quality": "3", "clicks": "1", "engagement": "latest"}) == [
        ("quality", 3),
        ("clicks", 1),
    ]
