"""Runs `trimtab` in this process as a shell would, and writes the files that it reads."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import click
from click.testing import CliRunner

from tests.scoring.building import FEATURES, add_model, mlp
from workers.cli import main, run
from workers.settings import SETTINGS

_NO_SETTING: dict[str, str | None] = {setting.variable: None for setting in SETTINGS.values()}
_TABLES = f"""
[feature_sets.wide]
names = {json.dumps(list(FEATURES))}
bounds = {{ f0 = [-1.0, 1.0] }}

[surfaces.home]
feature_set = "wide"
objectives = ["quality", "engagement"]
max_candidates = 60
weights = {{ quality = 0.5, engagement = 0.5 }}
weight_bounds = {{ quality = [0.0, 1.0], engagement = [0.0, 1.0] }}
"""
_SEARCH = """
[surfaces.search]
feature_set = "wide"
objectives = ["engagement"]
top_k = 2
weights = { engagement = 1.0 }
"""


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def trimtab(*words: object, given: bytes | str = b"", **environment: str) -> Ended:
    """Run the console script; the settings of whoever runs the tests are not seen."""
    return _run(main, ["trimtab", *map(str, words)], given, environment)


def run_command(command: click.Command, *words: str) -> Ended:
    """Run another command as `trimtab` runs its own."""
    return _run(lambda: run(command), ["command", *words], b"", {})


def _run(
    main: Callable[[], None],
    argv: list[str],
    given: bytes | str,
    environment: dict[str, str],
) -> Ended:
    with CliRunner().isolation(given, _NO_SETTING | environment) as (out, err, _):
        with mock.patch.object(sys, "argv", argv):
            try:
                main()
                code = 0
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        return Ended(code, out.getvalue().decode(), err.getvalue().decode())


def write_surfaces(folder: Path, search: bool = False) -> Path:
    """A surfaces.toml of `home` (two objectives) and, with `search`, of `search` (one objective, its
    best two items).
    """
    path = folder / "surfaces.toml"
    path.write_text(_TABLES + (_SEARCH if search else ""))
    return path


def write_models(folder: Path) -> Path:
    """Two small models."""
    root = folder / "models"
    for seed, objective in enumerate(("quality", "engagement"), 1):
        add_model(root, mlp(seed=seed), objective)
    return root


def write_lines(path: Path, events: Iterable[Mapping[str, Any] | str]) -> Path:
    """A file of events; a string is written unchanged."""
    lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]
