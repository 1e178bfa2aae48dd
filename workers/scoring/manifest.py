"""manifest.json: what the owner of a model version claims about it.

Unknown keys are ignored. Reading a manifest checks that it is complete and consistent. Its claims
are checked against the file by workers/scoring/verify.py.
"""

import re
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from workers.ranking.version import MAX_VERSION
from workers.scoring.files import MANIFEST, known_kind, read_file
from workers.scoring.refusal import ModelReason, ModelRefused

_SIZE_LIMIT = 16 * 2**20
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_LOOSEST = 0.01  # with a larger tolerance the golden rows would pass whatever the model does

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

    `input` is float32 `[candidates, features]`. `output` is float32 `[candidates, 1]` or
    `[candidates]`. A golden score may be off by `golden_tolerance * max(1, |score|)`. `metrics` is
    shown and never checked. Raises ValueError naming the key, the value and what was expected.
    """

    objective: _Text
    version: Annotated[int, msgspec.Meta(ge=1, le=MAX_VERSION)]
    sha256: _Sha256
    input: Tensor
    output: Tensor
    features: Annotated[tuple[_Text, ...], msgspec.Meta(min_length=1)]
    golden: Annotated[tuple[GoldenRow, ...], msgspec.Meta(min_length=1)]
    golden_tolerance: Annotated[float, msgspec.Meta(ge=0, le=_LOOSEST)] = 1e-5
    metrics: object = None

    def __post_init__(self) -> None:
        width = len(self.features)
        matrix = Tensor(self.input.name, "float32", (None, width))
        if self.input != matrix:
            raise ValueError(f"input: got {self.input}, expected {matrix} ({width} features)")

        column = Tensor(self.output.name, "float32", (None, 1))
        flat = Tensor(self.output.name, "float32", (None,))
        if self.output not in (column, flat):
            raise ValueError(f"output: got {self.output}, expected {column} or {flat}")

        repeated = sorted({name for name in self.features if self.features.count(name) > 1})
        if repeated:
            raise ValueError(
                f"features: {repeated[0]!r} appears more than once, expected each once"
            )

        for index, row in enumerate(self.golden):
            key = f"golden[{index}]"
            if len(row.features) != width:
                raise ValueError(
                    f"{key}.features: got {len(row.features)} numbers, expected {width}"
                )
            for value in (*row.features, row.score):
                if not abs(value) <= _FLOAT32_MAX:  # NaN must fail, too
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
        message = f"{path}: {_explain(str(error), raw)}"
        kind = known_kind(raw)
        if kind is not None:
            message += f"; it is {kind}"
        raise ModelRefused(ModelReason.MANIFEST, message) from None


def _explain(error: str, raw: bytes) -> str:
    """Put the key first, and add the value that msgspec leaves out."""
    problem, _, key = error.removesuffix("`").partition(" - at `$")
    key = key.removeprefix(".")

    missing = re.fullmatch("Object missing required field `(.*?)`?", problem)
    if missing:
        return f"{key}.{missing[1]}: got nothing, expected this key".removeprefix(".")
    if key and problem.startswith("Expected"):
        return f"{key}: got {_value_at(key, raw)}, e{problem[1:]}"
    if key:
        return f"{key}: {problem}"
    return problem


def _value_at(key: str, raw: bytes) -> str:
    try:
        value = msgspec.json.decode(raw)
    except msgspec.DecodeError:  # another key holds a number that is out of range
        return "another value"

    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", key):
        value = value[int(index)] if index else value[name]
    return repr(value)[:80]
