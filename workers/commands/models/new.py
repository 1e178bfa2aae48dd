"""`trimtab models new`: a model that was trained elsewhere, made a version that a worker takes."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from workers.commands.models.look import ROW_BY_ROW
from workers.commands.models.rows import draw_rows, read_rows
from workers.commands.options import example, settings
from workers.errors import Failure
from workers.ranking.features import FeatureSet
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
from workers.scoring.verify import SIZE_LIMIT
from workers.settings import SETTINGS, ConfigurationError, read_text
from workers.surfaces import load_surfaces

_OBJECTIVE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_REMEDIES: Mapping[ModelReason, str] = {
    ModelReason.PATH: "name the file itself",
    ModelReason.SIZE: "fewer or smaller trees or layers; what takes this long to load is slow to score too",
    ModelReason.MANIFEST: "name each feature once, in the order of the input's columns",
    ModelReason.UNREADABLE: "onnx.checker.check_model(FILE, full_check=True) says more; an older opset may help; "
    "a model that looks categories up wants --golden-from CSV, with rows as they really are",
    ModelReason.EXTERNAL_DATA: "onnx.save_model(onnx.load(FILE), FILE, save_as_external_data=False)",
    ModelReason.OPERATOR_DOMAIN: "export ONNX's own operators alone, and do not optimise the file for one runtime",
    ModelReason.FEATURES: "--features a,b,c or --features FILE, with names of the surface's feature set",
    ModelReason.BATCH: "export it for inference (PyTorch: model.eval()), without noise and sums over the batch",
    ModelReason.GOLDEN: "--golden-from CSV, with rows as they really are; clip the features inside the graph",
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
    help="Of a classifier, keep the probability of the class of this label as the score.",
)
@click.option(
    "--features",
    "given",
    help="Names of the input's columns in order, a,b,c, or a file that holds them.",
)
@click.option(
    "--version", type=click.IntRange(1, MAX_VERSION), help="Its number.  [default: the next]"
)
@click.option(
    "--golden-from",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV file with a column for each feature: golden rows are taken from it.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    help="Without a CSV file, golden rows are drawn by it.  [default: 0]",
)
@settings("models")
@click.option(
    "--surfaces",
    envvar=SETTINGS["surfaces"].variable,
    show_envvar=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Also hold it against the feature sets of this surfaces.toml, and draw golden rows within their bounds.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def new(
    objective: str,
    source: Path,
    label: str | None,
    given: str | None,
    version: int | None,
    golden_from: Path | None,
    seed: int | None,
    models: str,
    surfaces: Path | None,
    as_json: bool,
) -> None:
    """Make a version of OBJECTIVE of a model that was trained elsewhere.

    The file is copied as it is, verified as a worker does before it uses one, and described by a
    manifest whose golden rows come from running it. A worker takes it from there on. Where the file
    cannot work nothing is written; exit code 1, with why and what to do. Features need not be named
    where the file carries them (trimtab.features). With --class only what that probability needs is
    copied; of a model with several scores it takes an output's name.
    """
    if golden_from is not None and seed is not None:
        raise ConfigurationError("--seed: got it beside --golden-from, expected one of the two")
    root = Path(models)
    number = _number(root, objective, version)
    try:
        raw = read_file(source.resolve(), source.resolve().parent, SIZE_LIMIT)
        if label is not None:
            raw = keep_class(raw, label)
        features = features_of(raw, None if given is None else _names(given))
        sets = (
            [] if surfaces is None else _feature_sets(load_surfaces(surfaces), objective, features)
        )
        rows = _rows(features, golden_from, sets, seed or 0)
        manifest = draft(raw, objective, number, features, rows)
        sound = add_version(root, manifest, raw, sets)
    except ModelRefused as refused:
        raise Failure(_explain(source, refused)) from None
    except OSError as error:
        raise Failure(f"{root}: cannot be written: {error}") from None
    document = _document(root, manifest, sound)
    click.echo(json.dumps(document, indent=2) if as_json else _line(document))


def _number(root: Path, objective: str, version: int | None) -> int:
    """The version's number: the next, where none is asked for."""
    if not _OBJECTIVE.fullmatch(objective):
        expected = "1 to 64 letters, digits, '_', '-' or '.', not '-' or '.' first"
        raise ConfigurationError(f"OBJECTIVE: got {objective!r}, expected {expected}")
    if version is not None:
        return version
    found = [
        one.number for one in find_versions(root).get(objective, ()) if one.number <= MAX_VERSION
    ]
    highest = max(found, default=0)
    if highest == MAX_VERSION:
        raise ConfigurationError(
            f"--version: got nothing, expected one: {highest} is there, and none is higher"
        )
    return highest + 1


def _names(given: str) -> list[str]:
    """Names apart by commas, or by lines where they stand in a file."""
    text = given
    if os.path.isfile(given):
        try:
            text = read_text(Path(given))
        except ConfigurationError as error:
            raise ConfigurationError(f"--features: {error}") from None
    names = [name.strip() for name in re.split(r"[,\n]", text)]
    return [name for name in names if name]


def _feature_sets(surfaces: Surfaces, objective: str, features: Sequence[str]) -> list[FeatureSet]:
    """Those of the surfaces that name the objective; where none does, those that hold the features.
    Or ModelRefused.
    """
    if named := feature_sets_by_objective(surfaces).get(objective):
        return named
    every = {surface.feature_set.name: surface.feature_set for surface in surfaces.values()}
    if holding := [each for each in every.values() if set(features) <= set(each.names)]:
        return holding
    message = f"features: got {', '.join(features)}, expected only names of one feature set: {', '.join(every)}"
    raise ModelRefused(ModelReason.FEATURES, message)


def _rows(
    features: Sequence[str], golden_from: Path | None, sets: Sequence[FeatureSet], seed: int
) -> Matrix:
    if golden_from is not None:
        return read_rows(golden_from, features)
    return draw_rows(features, sets[0] if sets else None, seed)


def _explain(source: Path, refused: ModelRefused) -> str:
    remedy = None if refused.says_what_to_do else _REMEDIES.get(refused.reason)
    return f"{source}: refused, {refused.reason}: {refused.message}" + (
        f"\nTry: {remedy}" if remedy else ""
    )


def _document(root: Path, manifest: Manifest, sound: Verified) -> dict[str, object]:
    scores = [row.score for row in manifest.golden]
    return {
        "objective": manifest.objective,
        "version": manifest.version,
        "folder": str(root / manifest.objective / str(manifest.version)),
        "sha256": manifest.sha256,
        "features": list(manifest.features),
        "golden": len(scores),
        "lowest_score": min(scores),
        "highest_score": max(scores),
        "row_by_row": sound.rows_per_call == 1,
    }


def _line(document: dict[str, Any]) -> str:
    note = ROW_BY_ROW if document["row_by_row"] else ""
    scores = f"scores from {document['lowest_score']:.6g} to {document['highest_score']:.6g}"
    what = f"{len(document['features'])} features, {document['golden']} golden rows, {scores}"
    return f"added    {document['objective']}/{document['version']}  {what}{note}"
