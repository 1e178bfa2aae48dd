"""`trimtab models new`: make a version that workers accept from a model that was trained elsewhere.

A manifest has golden rows: features, and the score that the model gives them. Their features come
from a CSV file, or are random with a seed.
"""

import csv
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import click
import numpy as np

from workers.codec.text_files import NotUtf8, check_encoding
from workers.commands.models.verify import ROW_BY_ROW, surfaces_option
from workers.commands.options import example, json_option, settings
from workers.errors import Failure
from workers.ranking.features import FLOAT32_MAX, FeatureSet
from workers.ranking.surface import Surfaces, feature_sets_by_objective
from workers.ranking.version import MAX_VERSION
from workers.scoring.catalogue import Verified
from workers.scoring.classifier import keep_class
from workers.scoring.files import read_file
from workers.scoring.folder import find_versions
from workers.scoring.manifest import Manifest
from workers.scoring.model import Matrix
from workers.scoring.new_version import add_version, draft, features_of
from workers.scoring.refusal import ModelReason, ModelRefused
from workers.scoring.reopen import SIZE_LIMIT
from workers.settings import ConfigurationError, read_text
from workers.surfaces import load_surfaces

_OBJECTIVE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")

_RANDOM_ROWS = 512
_CSV_ROWS = 100_000
_SCALES = (0.1, 1.0, 10.0, 100.0)

_REMEDIES: Mapping[ModelReason, str] = {
    ModelReason.PATH: "name the file itself",
    ModelReason.SIZE: "fewer or smaller trees or layers; what takes this long to load is slow to score too",
    ModelReason.MANIFEST: "name each feature once, in the order of the input's columns",
    ModelReason.UNREADABLE: "onnx.checker.check_model(FILE, full_check=True) says more; an older opset may help; "
    "a model that looks categories up needs --golden-from CSV, with real rows",
    ModelReason.EXTERNAL_DATA: "onnx.save_model(onnx.load(FILE), FILE, save_as_external_data=False)",
    ModelReason.OPERATOR_DOMAIN: "export only ONNX's own operators, and do not optimise the file for one runtime",
    ModelReason.FEATURES: "--features a,b,c or --features FILE, with names of the surface's feature set",
    ModelReason.BATCH: "export it for inference (PyTorch: model.eval()), without noise and sums over the batch",
    ModelReason.GOLDEN: "--golden-from CSV, with real rows; clip the features inside the graph",
}


@click.command(
    epilog=example(
        "trimtab models new clicks --from model.onnx --features age_hours,title_words --golden-from rows.csv",
    )
)
@click.argument("objective")
@click.option(
    "--from",
    "source",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The model, as any trainer exports it to ONNX.",
)
@click.option(
    "--class",
    "label",
    metavar="LABEL",
    help="For a classifier: use the probability of the class of this label as the score.",
)
@click.option(
    "--features",
    "names_or_file",
    metavar="NAMES|FILE",
    help="Names of the input's columns in order: a,b,c or a file that holds them.",
)
@click.option(
    "--version",
    type=click.IntRange(1, MAX_VERSION),
    metavar="N",
    help="Number of the version.  [default: the next]",
)
@click.option(
    "--golden-from",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV file with a column for each feature. Golden rows are taken from it.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    metavar="N",
    help="Seed of the random golden rows, if there is no CSV file.  [default: 0]",
)
@settings("models")
@surfaces_option(
    "Also check it against the feature sets of this surfaces.toml, and keep random golden rows"
    " within their bounds."
)
@json_option("Print one JSON document.")
def new(
    objective: str,
    source: Path,
    label: str | None,
    names_or_file: str | None,
    version: int | None,
    golden_from: Path | None,
    seed: int | None,
    models: str,
    surfaces: Path | None,
    as_json: bool,
) -> None:
    """Make a version from a model that was trained elsewhere.

    It becomes a version of OBJECTIVE. The file is copied unchanged and verified as a worker does
    before it uses a model. Its manifest gets golden rows, whose scores come from running the model.
    Workers then use the version like any other. If the model cannot work, nothing is written: exit
    code 1, with the reason and what to do.

    --features can be left out if the file carries the names (metadata trimtab.features). With
    --class, only what that probability needs is copied. If the model has several scores, --class
    takes the name of an output.
    """
    if golden_from is not None and seed is not None:
        raise ConfigurationError("--seed: given with --golden-from, expected one of them")
    root = Path(models)
    number = _version_number(root, objective, version)

    try:
        raw = read_file(source.resolve(), source.resolve().parent, SIZE_LIMIT)
        if label is not None:
            raw = keep_class(raw, label)

        names = None if names_or_file is None else _read_names(names_or_file)
        features = features_of(raw, names)
        feature_sets: Sequence[FeatureSet] = []
        if surfaces is not None:
            feature_sets = _feature_sets(load_surfaces(surfaces), objective, features)

        if golden_from is not None:
            rows = read_rows(golden_from, features)
        else:
            rows = _random_rows(features, feature_sets[0] if feature_sets else None, seed or 0)

        manifest = draft(raw, objective, number, features, rows)
        verified = add_version(root, manifest, raw, feature_sets)
    except ModelRefused as refused:
        message = f"{source}: refused, {refused.reason}: {refused.message}"
        remedy = _REMEDIES.get(refused.reason)
        if remedy and not refused.has_advice:
            message += f"\nTry: {remedy}"
        raise Failure(message) from None
    except OSError as error:
        raise Failure(f"{root}: cannot be written: {error}") from None

    _print_version(root, manifest, verified, as_json=as_json)


def _version_number(root: Path, objective: str, version: int | None) -> int:
    """The number of the new version: the one that is wanted, or the next. Raises
    ConfigurationError.
    """
    if not _OBJECTIVE.fullmatch(objective):
        expected = "1 to 64 letters, digits, '_', '-' or '.', not '-' or '.' first"
        raise ConfigurationError(f"OBJECTIVE: got {objective!r}, expected {expected}")
    if version is not None:
        return version

    highest = 0
    for found in find_versions(root).get(objective, ()):
        if found.number <= MAX_VERSION:
            highest = max(highest, found.number)
    if highest == MAX_VERSION:
        raise ConfigurationError(
            f"--version: got nothing, expected a number: {highest} exists, and none is higher"
        )
    return highest + 1


def _read_names(names_or_file: str) -> list[str]:
    """Names separated by commas, or by commas or lines in a file. Raises ConfigurationError."""
    text = names_or_file
    if os.path.isfile(names_or_file):
        try:
            text = read_text(Path(names_or_file))
        except ConfigurationError as error:
            raise ConfigurationError(f"--features: {error}") from None
    names = [name.strip() for name in re.split(r"[,\n]", text)]
    return [name for name in names if name]


def _feature_sets(
    surfaces: Surfaces, objective: str, features: Sequence[str]
) -> Sequence[FeatureSet]:
    """The feature sets of the surfaces that have the objective. If none has it: every feature set
    that holds all the features. Raises ModelRefused if there is none.
    """
    of_objective = feature_sets_by_objective(surfaces).get(objective)
    if of_objective:
        return of_objective

    known = {surface.feature_set.name: surface.feature_set for surface in surfaces.values()}
    holding = []
    for feature_set in known.values():
        if set(features) <= set(feature_set.names):
            holding.append(feature_set)
    if holding:
        return holding
    raise ModelRefused(
        ModelReason.FEATURES,
        f"features: got {', '.join(features)}, expected only names of one feature set:"
        f" {', '.join(known)}",
    )


def _print_version(root: Path, manifest: Manifest, verified: Verified, *, as_json: bool) -> None:
    scores = [row.score for row in manifest.golden]
    is_row_by_row = verified.rows_per_call == 1
    if as_json:
        document = {
            "objective": manifest.objective,
            "version": manifest.version,
            "folder": str(root / manifest.objective / str(manifest.version)),
            "sha256": manifest.sha256,
            "features": list(manifest.features),
            "golden": len(scores),
            "lowest_score": min(scores),
            "highest_score": max(scores),
            "row_by_row": is_row_by_row,
        }
        click.echo(json.dumps(document, indent=2))
        return

    note = ROW_BY_ROW if is_row_by_row else ""
    click.echo(
        f"added    {manifest.objective}/{manifest.version}  {len(manifest.features)} features,"
        f" {len(scores)} golden rows, scores from {min(scores):.6g} to {max(scores):.6g}{note}"
    )


# Golden rows


def read_rows(path: Path, features: Sequence[str]) -> Matrix:
    """The features' columns of a CSV file, by the names in its first line: float32 `[N, features]`.

    Equal rows are returned once. Other columns are ignored, and rows after the first 100,000.
    Raises ConfigurationError naming line, column and value.
    """
    try:
        with path.open("rb") as binary:
            check_encoding(binary.read(4))
        with path.open(encoding="utf-8-sig", newline="") as file:
            numbers = _read_numbers(path, csv.DictReader(file), features)
            rows = np.array(list(islice(numbers, _CSV_ROWS)), np.float32)
    except (OSError, NotUtf8, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from None

    if not len(rows):
        raise ConfigurationError(
            f"{path}: got no row, expected at least 2, so that the model can tell them apart"
        )
    distinct: Matrix = np.unique(rows, axis=0)
    return distinct


def _read_numbers(
    path: Path, rows: "csv.DictReader[str]", features: Sequence[str]
) -> Iterator[list[float]]:
    for name in features:
        if name not in (rows.fieldnames or ()):
            raise ConfigurationError(
                f"{path}: line 1: got no column {name!r}, expected a column for each feature"
            )
    for row in rows:
        numbers = []
        for name in features:
            text = row[name] or ""
            try:
                number = float(text)
            except ValueError:
                number = float("nan")
            if not abs(number) <= FLOAT32_MAX:
                raise ConfigurationError(
                    f"{path}: line {rows.line_num}: {name}:"
                    f" got {text[:80]!r}, expected a finite float32 number"
                )
            numbers.append(number)
        yield numbers


def _random_rows(features: Sequence[str], feature_set: FeatureSet | None, seed: int) -> Matrix:
    """Random rows with a seed: float32 `[512, features]`.

    A feature with bounds is uniform between them. Any other is normal around its default, in one of
    four scales from 0.1 to 100 by row, because it is not known where the model changes its slope.
    """
    random = np.random.default_rng(seed)
    scales = np.resize(_SCALES, _RANDOM_ROWS)[:, None]
    rows = random.normal(size=(_RANDOM_ROWS, len(features))) * scales
    for column, name in enumerate(features):
        if feature_set is not None and name in feature_set.bounds:
            low, high = feature_set.bounds[name]
            rows[:, column] = random.uniform(low, high, _RANDOM_ROWS)
        elif feature_set is not None:
            rows[:, column] += feature_set.defaults.get(name, 0.0)
    float32_rows: Matrix = rows.astype(np.float32)
    return float32_rows
