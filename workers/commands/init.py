"""`trimtab init`: a starter project in a folder.

Rules:

- The project has the paths that are the defaults of the settings. So no setting names its files.
- Its surfaces and models are those of the repository, not copies. A wheel carries them beside this
  module (pyproject.toml, `force-include`).
- No file is overwritten. If one of them exists, nothing is written.
"""

from pathlib import Path

import click

from workers.commands.options import example
from workers.errors import Failure

STARTER_FILES = (
    "README.md",
    "events.jsonl",
    "deploy/surfaces.toml",
    "onnx_models/quality/1/manifest.json",
    "onnx_models/quality/1/model.onnx",
    "onnx_models/engagement/1/manifest.json",
    "onnx_models/engagement/1/model.onnx",
)
_STARTER = Path(__file__).parent / "starter"
_CHECKOUT = Path(__file__).parents[2]


@click.command(epilog=example("trimtab init feeds", "cd feeds && cat README.md"))
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
def init(folder: Path) -> None:
    """Write a starter project to DIR: surfaces, models that verify, events, and a README.

    DIR may exist. If it has one of the files already, nothing is written, and the exit code is 1.
    """
    existing = [name for name in STARTER_FILES if (folder / name).exists()]
    if existing:
        raise Failure(
            f"{folder}: has {', '.join(existing)} already, expected none of the files of a starter"
            " project: nothing was written. Name another folder, or remove them"
        )

    for name in STARTER_FILES:
        _write_new(folder / name, _starter_file(name).read_bytes())

    click.echo(f"Wrote {len(STARTER_FILES)} files to {folder}. Next:")
    click.echo(f"  cd {folder}")
    click.echo('  eval "$(trimtab stack up --export)"')
    click.echo("  trimtab doctor")
    click.echo("  trimtab worker --metrics-port 9464 &")
    click.echo("  trimtab produce events.jsonl")
    click.echo("  trimtab feeds tail --from-beginning --count 20 --top 3")
    click.echo("  curl -s http://127.0.0.1:9464/metrics | grep trimtab_feeds_total")


def _starter_file(name: str) -> Path:
    """A file of the starter project. In a checkout, surfaces and models are the repository's."""
    in_package = _STARTER / name
    return in_package if in_package.is_file() else _CHECKOUT / name


def _write_new(path: Path, content: bytes) -> None:
    """Write a file that must not exist yet, and its folders. Raises Failure."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(content)
    except OSError as error:
        raise Failure(f"{path}: cannot be written: {error.strerror}") from None
