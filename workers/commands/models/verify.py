"""`trimtab models list` and `verify`: the versions in a models folder, and whether workers accept them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from workers.commands.options import Decorator, example, json_option
from workers.commands.text import NOTHING, table
from workers.ranking.features import FeatureSet
from workers.ranking.surface import feature_sets_by_objective
from workers.scoring.catalogue import Rejected, Verdict, Verified
from workers.scoring.folder import find_versions
from workers.scoring.manifest import read_manifest
from workers.scoring.refusal import ModelRefused, Version
from workers.scoring.verifier import Verifier
from workers.settings import SETTINGS
from workers.surfaces import load_surfaces

ROW_BY_ROW = (
    "  (scored row by row, which is slower: its rounding depends on the place in the batch)"
)

_METRICS_SHOWN = 3
_Document = dict[str, object]

_folder_argument = click.argument(
    "folder",
    metavar="[DIR]",
    envvar=SETTINGS["models"].variable,
    default=SETTINGS["models"].default,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)


def surfaces_option(help_text: str) -> Decorator:
    """--surfaces of a command that can do without them, as `surfaces`."""
    setting = SETTINGS["surfaces"]
    return click.option(
        "--surfaces",
        envvar=setting.variable,
        show_envvar=True,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help=help_text,
    )


_surfaces_option = surfaces_option(
    "Also check each model against the feature sets of this surfaces.toml."
)


@click.command("list", epilog=example("trimtab models list onnx_models --json"))
@_folder_argument
@_surfaces_option
@json_option("Print one JSON document.")
def list_models(folder: Path, surfaces: Path | None, as_json: bool) -> None:
    """List the versions in DIR.

    State `in-force` marks what a worker that starts now would use: the highest version of each
    objective that passes verification. DIR is TRIMTAB_MODELS if it is set, otherwise onnx_models.
    """
    feature_sets = _feature_sets(surfaces)
    documents: list[_Document] = []
    with Verifier() as verifier:
        for objective, versions in find_versions(folder).items():
            # Highest first. Those below the one in force are not verified.
            is_in_force_found = False
            for version in versions:
                verdict = None
                if not is_in_force_found:
                    verdict = verifier.verify(version.folder, feature_sets.get(objective, []))
                    is_in_force_found = isinstance(verdict, Verified)
                documents.append(_version_document(version, verdict))

    if as_json:
        click.echo(json.dumps({"models": documents}, indent=2))
    elif not documents:
        click.echo(f"No model in {folder}.")
    else:
        rows = [["OBJECTIVE", "VERSION", "STATE", "FEATURES", "SHA256", "METRICS"]]
        rows += [_version_row(document) for document in documents]
        for line in table(rows, align="l"):
            click.echo(line)


@click.command(epilog=example("trimtab models verify onnx_models --surfaces deploy/surfaces.toml"))
@_folder_argument
@_surfaces_option
@json_option("Print one JSON document.")
@click.pass_context
def verify(context: click.Context, *, folder: Path, surfaces: Path | None, as_json: bool) -> None:
    """Verify every version in DIR as a worker does before it uses one.

    Exit code 1 if a version is refused, if there is none, or (with --surfaces) if no version of an
    objective passes verification. DIR is TRIMTAB_MODELS if it is set, otherwise onnx_models.
    """
    feature_sets = _feature_sets(surfaces)
    documents: list[_Document] = []
    with Verifier() as verifier:
        for objective, versions in find_versions(folder).items():
            for version in versions:
                verdict = verifier.verify(version.folder, feature_sets.get(objective, []))
                documents.append(
                    {
                        "objective": version.objective,
                        "version": version.number,
                        "ok": isinstance(verdict, Verified),
                        **_refusal_document(verdict),
                        "row_by_row": _is_row_by_row(verdict),
                    }
                )

    verified = {document["objective"] for document in documents if document["ok"]}
    missing = sorted(set(feature_sets) - verified)
    if as_json:
        click.echo(json.dumps({"models": documents, "missing": missing}, indent=2))
    else:
        for version_document in documents:
            name = f"{version_document['objective']}/{version_document['version']}"
            if version_document["ok"]:
                note = ROW_BY_ROW if version_document["row_by_row"] else ""
                click.echo(f"ok       {name}{note}")
            else:
                reason = f"{version_document['reason']}: {version_document['message']}"
                click.echo(f"refused  {name}  {reason}")
        for objective in missing:
            click.echo(
                f"missing  {objective}  no version passes verification, and a surface needs one"
            )
        if not documents:
            click.echo(f"No model in {folder}.")

    all_verified = all(document["ok"] for document in documents)
    context.exit(0 if documents and all_verified and not missing else 1)


def _feature_sets(surfaces: Path | None) -> Mapping[str, list[FeatureSet]]:
    return {} if surfaces is None else feature_sets_by_objective(load_surfaces(surfaces))


def _version_document(version: Version, verdict: Verdict | None) -> _Document:
    """One version for `list`. Without a verdict it is below the one in force."""
    if verdict is None:
        state = "older"
    elif isinstance(verdict, Verified):
        state = "in-force"
    else:
        state = "refused"

    try:
        manifest = read_manifest(version.folder, version.folder.parent.parent)
    except ModelRefused:
        manifest = None
    return {
        "objective": version.objective,
        "version": version.number,
        "state": state,
        "features": manifest and len(manifest.features),
        "sha256": manifest and manifest.sha256,
        "metrics": manifest and manifest.metrics,
        **_refusal_document(verdict),
    }


def _is_row_by_row(verdict: Verdict) -> bool | None:
    return verdict.rows_per_call == 1 if isinstance(verdict, Verified) else None


def _refusal_document(verdict: Verdict | None) -> _Document:
    if isinstance(verdict, Rejected):
        return {"reason": str(verdict.reason), "message": verdict.message}
    return {"reason": None, "message": None}


def _version_row(document: _Document) -> list[str]:
    metrics = []
    for name, value in _numbers(document["metrics"]):
        metrics.append(f"{name}={value:.3g}")

    reason = document["reason"]
    features = document["features"]
    sha256 = document["sha256"]
    return [
        str(document["objective"]),
        str(document["version"]),
        f"refused: {reason}" if reason else str(document["state"]),
        NOTHING if features is None else str(features),
        str(sha256)[:12] if sha256 else NOTHING,
        " ".join(metrics[:_METRICS_SHOWN]) or NOTHING,
    ]


def _numbers(metrics: object, path: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in a manifest's metrics at any depth, named by their keys such as `auc.test`."""
    if isinstance(metrics, dict):
        for key, value in metrics.items():
            yield from _numbers(value, f"{path}.{key}" if path else str(key))
    elif isinstance(metrics, int | float) and not isinstance(metrics, bool):
        yield path, metrics
