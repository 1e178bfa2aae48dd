"""A new version in the models' folder: verified beside it as a worker would, then written, the
manifest last.
"""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from workers.errors import Failure
from workers.ranking.features import FeatureSet
from workers.scoring.catalogue import Rejected, Verified
from workers.scoring.manifest import MANIFEST, MODEL, Manifest
from workers.scoring.refusal import ModelRefused
from workers.scoring.verifier import Verifier


class VersionTaken(Failure):
    """The folder of that version is there: a version is never changed, a new one takes another
    number.
    """


def add_version(
    root: Path, manifest: Manifest, raw: bytes, feature_sets: Iterable[FeatureSet] = ()
) -> Verified:
    """Verify a version and write it to `<root>/<objective>/<version>/`. Raises ModelRefused,
    VersionTaken, OSError.
    """
    with TemporaryDirectory() as beside, Verifier() as examiner:
        verdict = examiner.examine(_write(Path(beside), manifest, raw), feature_sets)
    if isinstance(verdict, Rejected):
        raise ModelRefused(verdict.reason, verdict.message)
    _write(root, manifest, raw)
    return verdict


def _write(root: Path, manifest: Manifest, raw: bytes) -> Path:
    folder = root / manifest.objective / str(manifest.version)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        raise VersionTaken(f"{folder}: is there already, expected a version that is not") from None
    try:
        _write_files(folder, manifest, raw)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _write_files(folder: Path, manifest: Manifest, raw: bytes) -> None:
    (folder / MODEL).write_bytes(raw)
    # A folder without a manifest is not a version yet, and nobody sees half a manifest.
    part = folder / f"{MANIFEST}.part"
    part.write_text(_text(manifest), encoding="utf-8")
    os.replace(part, folder / MANIFEST)


def _text(manifest: Manifest) -> str:
    """A key a line, and a golden row a line."""
    said = {key: value for key, value in msgspec.to_builtins(manifest).items() if value is not None}
    golden = ",\n  ".join(map(_line, said.pop("golden")))
    keys = [f"{_line(key)}: {_line(value)}" for key, value in said.items()]
    return "{\n " + ",\n ".join([*keys, f'"golden": [\n  {golden}\n ]']) + "\n}\n"


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
