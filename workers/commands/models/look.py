"""`trimtab models list` and `verify`: what lies in the models' folder, and whether a worker would
take it.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from workers.commands.options import example
from workers.ranking.features import FeatureSet
from workers.ranking.surface import feature_sets_by_objective
from workers.scoring.catalogue import Rejected, Verdict, Verified
from workers.scoring.folder import find_versions
from workers.scoring.manifest import Manifest, read_manifest
from workers.scoring.refusal import ModelRefused, Version
from workers.scoring.verifier import Verifier
from workers.settings import SETTINGS
from workers.surfaces import load_surfaces

ROW_BY_ROW = "  (scored row by row, so slower: it rounds by where a row stands in the batch)"

_METRICS_SHOWN = 3
_Entry = dict[str, object]
_FeatureSets = Mapping[str, list[FeatureSet]]

_folder = click.argument(
    "folder",
    metavar="[DIR]",
    envvar=SETTINGS["models"].variable,
    default=SETTINGS["models"].default,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
_surfaces = click.option(
    "--surfaces",
    envvar=SETTINGS["surfaces"].variable,
    show_envvar=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Also hold each model against the feature sets of this surfaces.toml.",
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.command("list", epilog=example("trimtab models list onnx_models --json"))
@_folder
@_surfaces
@_as_json
def list_models(folder: Path, surfaces: Path | None, as_json: bool) -> None:
    """List the versions in DIR, and which of them a worker that starts now would use.

    That is the highest version of each objective that verifies. DIR is TRIMTAB_MODELS, else
    onnx_models.
    """
    sets = _feature_sets(surfaces)
    with Verifier() as verifier:
        found = find_versions(folder).items()
        entries = [
            entry for o, versions in found for entry in _listed(versions, sets.get(o, []), verifier)
        ]
    if as_json:
        click.echo(json.dumps({"models": entries}, indent=2))
    elif not entries:
        click.echo(f"No model in {folder}.")
    else:
        _print_table(entries)


@click.command(epilog=example("trimtab models verify onnx_models --surfaces deploy/surfaces.toml"))
@_folder
@_surfaces
@_as_json
@click.pass_context
def verify(context: click.Context, folder: Path, surfaces: Path | None, as_json: bool) -> None:
    """Verify every version in DIR, as a worker does before it uses one.

    Exit code 1: a version is refused, there is none, or (with --surfaces) an objective has none
    that verifies. DIR is TRIMTAB_MODELS, else onnx_models.
    """
    sets = _feature_sets(surfaces)
    found = [version for versions in find_versions(folder).values() for version in versions]
    with Verifier() as verifier:
        verdicts = [
            _judged(version, verifier.verify(version.folder, sets.get(version.objective, [])))
            for version in found
        ]
    missing = sorted(set(sets) - {version["objective"] for version in verdicts if version["ok"]})
    if as_json:
        click.echo(json.dumps({"models": verdicts, "missing": missing}, indent=2))
    else:
        _print_verdicts(folder, verdicts, missing)
    context.exit(
        0 if verdicts and not missing and all(version["ok"] for version in verdicts) else 1
    )


def _feature_sets(surfaces: Path | None) -> _FeatureSets:
    return {} if surfaces is None else feature_sets_by_objective(load_surfaces(surfaces))


def _listed(
    versions: list[Version], sets: list[FeatureSet], verifier: Verifier
) -> Iterator[_Entry]:
    """One objective's versions, the highest first; those below the one in force are not verified."""
    rest = iter(versions)
    for version in rest:
        verdict = verifier.verify(version.folder, sets)
        yield _entry(version, verdict)
        if isinstance(verdict, Verified):
            break
    yield from (_entry(version, None) for version in rest)


def _entry(version: Version, verdict: Verdict | None) -> _Entry:
    manifest = _manifest(version)
    return {
        "objective": version.objective,
        "version": version.number,
        "state": "older"
        if verdict is None
        else "in-force"
        if isinstance(verdict, Verified)
        else "refused",
        "features": manifest and len(manifest.features),
        "sha256": manifest and manifest.sha256,
        "metrics": manifest and manifest.metrics,
        **_reason(verdict),
    }


def _reason(verdict: Verdict | None) -> _Entry:
    if isinstance(verdict, Rejected):
        return {"reason": str(verdict.reason), "message": verdict.message}
    return {"reason": None, "message": None}


def _manifest(version: Version) -> Manifest | None:
    try:
        return read_manifest(version.folder, version.folder.parent.parent)
    except ModelRefused:
        return None


def _judged(version: Version, verdict: Verdict) -> _Entry:
    return {
        "objective": version.objective,
        "version": version.number,
        "ok": isinstance(verdict, Verified),
        **_reason(verdict),
        "row_by_row": verdict.rows_per_call == 1 if isinstance(verdict, Verified) else None,
    }


def _print_verdicts(folder: Path, verdicts: list[_Entry], missing: list[str]) -> None:
    for version in verdicts:
        name = f"{version['objective']}/{version['version']}"
        if not version["ok"]:
            click.echo(f"refused  {name}  {version['reason']}: {version['message']}")
        else:
            click.echo(f"ok       {name}{ROW_BY_ROW if version['row_by_row'] else ''}")
    for objective in missing:
        click.echo(f"missing  {objective}  no version verifies, and a surface needs it")
    if not verdicts:
        click.echo(f"No model in {folder}.")


def _print_table(entries: list[_Entry]) -> None:
    head = ("OBJECTIVE", "VERSION", "STATE", "FEATURES", "SHA256", "METRICS")
    rows = [head, *(_row(entry) for entry in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        click.echo(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def _row(entry: _Entry) -> tuple[str, ...]:
    state = f"refused: {entry['reason']}" if entry["reason"] else str(entry["state"])
    features = "-" if entry["features"] is None else str(entry["features"])
    sha256 = str(entry["sha256"])[:12] if entry["sha256"] else "-"
    shown = [f"{name}={value:.3g}" for name, value in _numbers(entry["metrics"])][:_METRICS_SHOWN]
    return (
        str(entry["objective"]),
        str(entry["version"]),
        state,
        features,
        sha256,
        " ".join(shown) or "-",
    )


def _numbers(metrics: object, at: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in a manifest's metrics, at any depth, named by their keys."""
    if isinstance(metrics, dict):
        for key, value in metrics.items():
            yield from _numbers(value, f"{at}.{key}" if at else str(key))
    elif isinstance(metrics, int | float) and not isinstance(metrics, bool):
        yield at, metrics
