"""manifest.json: what a model version says of itself, validated whole. Keys not named here are
ignored.

The manifest is the owner's claim; workers/scoring/verify.py holds it against the file.
"""

import re
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from workers.ranking.version import LAST_VERSION
from workers.scoring.files import read_file
from workers.scoring.kinds import known_kind
from workers.scoring.refusal import ModelReason, ModelRefused

MANIFEST = "manifest.json"
MODEL = "model.onnx"

_SIZE_LIMIT = 16 * 2**20
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_LOOSEST = 0.01  # a tolerance past this would let golden rows pass whatever the model does

_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Sha256 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class Tensor(msgspec.Struct, frozen=True):
    """An input or output of the graph. In `shape`, None is a free dimension: the number of
    candidates.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.name!r} {self.dtype} {msgspec.json.encode(self.shape).decode()}"


class GoldenRow(msgspec.Struct, frozen=True):
    """Features in the manifest's order, and the score that they must get."""

    features: tuple[float, ...]
    score: float


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One version of one objective's model.

    `input` is float32 `[candidates, features]`, `output` float32 `[candidates, 1]` or
    `[candidates]`. A golden score may be off by `golden_tolerance * max(1, |score|)`. `metrics` is
    shown, never judged. Raises ValueError naming the key, the value and what was expected.
    """

    objective: _Text
    version: Annotated[int, msgspec.Meta(ge=1, le=LAST_VERSION)]
    sha256: _Sha256
    input: Tensor
    output: Tensor
    features: Annotated[tuple[_Text, ...], msgspec.Meta(min_length=1)]
    golden: Annotated[tuple[GoldenRow, ...], msgspec.Meta(min_length=1)]
    golden_tolerance: Annotated[float, msgspec.Meta(ge=0, le=_LOOSEST)] = 1e-5
    metrics: object = None

    def __post_init__(self) -> None:
        self._check_tensors()
        twice = sorted({name for name in self.features if self.features.count(name) > 1})
        if twice:
            raise ValueError(f"features: {twice[0]!r} stands more than once, expected each once")
        for place, row in enumerate(self.golden):
            self._check_golden(f"golden[{place}]", row)

    def _check_tensors(self) -> None:
        width = len(self.features)
        wanted = Tensor(self.input.name, "float32", (None, width))
        if self.input != wanted:
            raise ValueError(f"input: got {self.input}, expected {wanted} ({width} features)")
        column, flat = (
            Tensor(self.output.name, "float32", shape) for shape in ((None, 1), (None,))
        )
        if self.output not in (column, flat):
            raise ValueError(f"output: got {self.output}, expected {column} or {flat}")

    def _check_golden(self, key: str, row: GoldenRow) -> None:
        if len(row.features) != len(self.features):
            raise ValueError(
                f"{key}.features: got {len(row.features)} numbers, expected {len(self.features)}"
            )
        for value in (*row.features, row.score):
            if not abs(value) <= _FLOAT32_MAX:
                raise ValueError(f"{key}: got {value!r}, expected finite float32 numbers")


def read_manifest(folder: Path, root: Path) -> Manifest:
    """Read `folder`/manifest.json, which must lie under `root`. Raises ModelRefused."""
    path = folder / MANIFEST
    try:
        raw = read_file(path, root, _SIZE_LIMIT)
    except FileNotFoundError:
        message = f"{path}: no such file: the folder is still being copied, or is no model version"
        raise ModelRefused(ModelReason.MANIFEST, message) from None
    try:
        return msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        kind = known_kind(raw)
        what = f"; it is {kind}" if kind else ""
        raise ModelRefused(
            ModelReason.MANIFEST, f"{path}: {_explain(str(error), raw)}{what}"
        ) from None


def _explain(error: str, raw: bytes) -> str:
    """Put the key first, and add the value that msgspec leaves out."""
    what, _, key = error.removesuffix("`").partition(" - at `$")
    key = key.removeprefix(".")
    if missing := re.fullmatch("Object missing required field `(.*?)`?", what):
        return f"{key}.{missing[1]}: got nothing, expected this key".removeprefix(".")
    if key and what.startswith("Expected"):
        return f"{key}: got {_value_at(key, raw)}, e{what[1:]}"
    return f"{key}: {what}" if key else what


def _value_at(key: str, raw: bytes) -> str:
    try:
        value = msgspec.json.decode(raw)
    except msgspec.DecodeError:  # another key holds a number that is out of range
        return "another value"
    for name, place in re.findall(r"([^.\[\]]+)|\[(\d+)\]", key):
        value = value[int(place)] if place else value[name]
    return repr(value)[:80]
