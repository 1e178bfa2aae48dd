"""docs/configuration.md says what the code says."""

import tomllib
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from tests.docs.documents import ROOT, Block, blocks, table
from workers.ranking.outcome_rules import OutcomeRules
from workers.ranking.surface import Surface
from workers.settings import SETTINGS, Setting
from workers.surfaces import load_surfaces

CONFIGURATION = ROOT / "docs" / "configuration.md"
OUTCOMES = ROOT / "docs" / "outcomes.md"

KEYS_WITHOUT_A_FIELD_DEFAULT = {
    "feature_set": "required",
    "objectives": "required",
    "weights": "required",
    "weight_bounds": "none",
}


def row(setting: Setting) -> list[str]:
    """What a setting's line in the table must be."""
    if setting.default is None:
        default = "none"
    elif setting.default:
        default = f"`{setting.default}`"
    else:
        default = "empty"

    meaning = setting.help.replace("<", r"\<")
    if setting.choices:
        choices = ", ".join(f"`{choice}`" for choice in setting.choices)
        meaning += f" One of: {choices}."

    return [f"`{setting.flag}`", f"`{setting.variable}`", default, meaning]


def test_the_table_of_settings_is_the_settings_in_their_order() -> None:
    assert table(CONFIGURATION, "Flag") == [row(setting) for setting in SETTINGS.values()]


def test_the_table_of_a_surfaces_keys_has_every_key_with_its_default() -> None:
    expected = dict(KEYS_WITHOUT_A_FIELD_DEFAULT)
    for field in fields(Surface):
        if field.default is not MISSING:
            has_none = field.default in (None, ())
            expected[field.name] = "none" if has_none else str(field.default).lower()

    shown = {
        key.strip("`"): default for key, default, _ in table(CONFIGURATION, "Key of a surface")
    }
    assert shown == expected


def test_the_table_of_outcomes_has_every_key() -> None:
    public = {field.name for field in fields(OutcomeRules) if not field.name.startswith("_")}
    shown = {key.strip("`") for key, _, _ in table(OUTCOMES, "Key of `outcomes`")}
    assert shown == public


@pytest.mark.parametrize(
    "block",
    [*blocks(CONFIGURATION, "toml"), *blocks(OUTCOMES, "toml")],
    ids=lambda block: block.name,
)
def test_the_surfaces_shown_are_valid(tmp_path: Path, block: Block) -> None:
    path = tmp_path / "surfaces.toml"
    path.write_text(block.text)
    assert set(load_surfaces(path)) == set(tomllib.loads(block.text)["surfaces"])
