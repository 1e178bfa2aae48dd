"""README's tables say what the code says."""

import json
import tomllib
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from tests.commands.running import trimtab
from tests.docs.papers import ROOT, Block, blocks, table
from workers.ranking.surface import Surface
from workers.settings import SETTINGS, Setting
from workers.surfaces import load_surfaces

README = ROOT / "README.md"


def row(setting: Setting) -> list[str]:
    """What a setting's line in the table must be."""
    default = (
        "none"
        if setting.default is None
        else f"`{setting.default}`"
        if setting.default
        else "empty"
    )
    choices = (
        f" One of: {', '.join(f'`{choice}`' for choice in setting.choices)}."
        if setting.choices
        else ""
    )
    return [
        f"`{setting.flag}`",
        f"`{setting.variable}`",
        default,
        setting.help.replace("<", r"\<") + choices,
    ]


def test_the_configuration_table_is_the_settings_in_their_order() -> None:
    assert table(README, "Flag") == [row(setting) for setting in SETTINGS.values()]


def test_the_table_of_a_surfaces_keys_has_every_key_with_its_default() -> None:
    shown = {key.strip("`"): default for key, default, _ in table(README, "Key of a surface")}
    defaults = {
        field.name: field.default for field in fields(Surface) if field.default is not MISSING
    }
    known = {
        key: "none" if default in (None, ()) else str(default).lower()
        for key, default in defaults.items()
    }
    assert {key: shown[key] for key in known} == known
    required = {
        "feature_set": "required",
        "objectives": "required",
        "weights": "required",
        "weight_bounds": "none",
    }
    assert {key: default for key, default in shown.items() if key not in known} == required


@pytest.mark.parametrize("block", blocks(README, "toml"), ids=lambda block: block.name)
def test_the_surfaces_shown_are_valid(tmp_path: Path, block: Block) -> None:
    text = block.text
    path = tmp_path / "surfaces.toml"
    path.write_text(text)
    assert set(load_surfaces(path)) == set(tomllib.loads(text)["surfaces"])


def test_the_event_shown_is_one_that_the_surfaces_shown_take(tmp_path: Path) -> None:
    surfaces = tmp_path / "surfaces.toml"
    surfaces.write_text(blocks(README, "toml")[0].text)
    (shown,) = blocks(README, "json")
    event = json.dumps(json.loads(shown.text)).encode()
    ended = trimtab("validate", "-", given=event, TRIMTAB_SURFACES=str(surfaces))
    assert ended == (0, "1 events of 1 requests: 0 refused\n", "")


def test_the_two_commands_come_first() -> None:
    first = blocks(README, "bash")[0]
    assert first.text.splitlines() == ["make demo", "make test"]
