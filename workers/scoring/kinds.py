"""What a file is that was taken for an ONNX model and is none, by how it begins; and what to do
about it.
"""

import re
from typing import NamedTuple

_BEGINNING = 512
_SHOWN = 40


class Kind(NamedTuple):
    """What a file is, and how to come by the model."""

    name: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name}; {self.remedy}"


_COPY = "copy the file again"
_CONVERT = "convert the trained model to ONNX: onnx_models/README.md has recipes"
_EMPTY = Kind("an empty file", _COPY)
_KINDS = (
    (
        rb"version https://git-lfs",
        Kind("a git-lfs pointer", "`git lfs pull` fetches the file that it stands for"),
    ),
    (
        rb"(?i)\s*(<!doctype html|<html|<\?xml)",
        Kind("a web page", "download the file, not the page that shows it"),
    ),
    (rb"\x80[\x02-\x05]", Kind("a Python pickle", _CONVERT)),
    (rb"PK\x03\x04", Kind("a zip archive, as torch.save writes it", f"unpack it, or {_CONVERT}")),
    (rb"\x1f\x8b", Kind("a gzip file", "unpack it: gunzip")),
    (rb"\x89HDF", Kind("an HDF5 file, as Keras writes it", _CONVERT)),
    (rb"CBM1", Kind("a model in CatBoost's own format", 'save_model(FILE, format="onnx")')),
    (rb"tree\r?\nversion=", Kind("a model in LightGBM's own format", _CONVERT)),
    (rb'\{"learner"|\{L|binf', Kind("a model in XGBoost's own format", _CONVERT)),
    (
        rb"....ORTM",
        Kind("a model in onnxruntime's own format", "take the .onnx file that it was made of"),
    ),
    (rb"....TFL3", Kind("a TensorFlow Lite model", _CONVERT)),
    (rb'.{7}\x00\{"', Kind("a file of tensors in the safetensors format", _CONVERT)),
)


def known_kind(raw: bytes) -> Kind | None:
    """What a file surely is; None where it may be what it should be."""
    if not raw:
        return _EMPTY
    beginning = raw[:_BEGINNING].removeprefix(b"\xef\xbb\xbf")
    return next((kind for pattern, kind in _KINDS if re.match(pattern, beginning, re.DOTALL)), None)


def kind_of(raw: bytes) -> Kind | None:
    """What a file is that does not read as an ONNX model; None where that cannot be seen."""
    known = known_kind(raw)
    if known is not None:
        return known
    beginning = raw[:_BEGINNING]
    text = beginning.decode("utf-8", errors="ignore")
    is_whole = len(text.encode()) > len(beginning) - 4  # the last letter may be cut
    if is_whole and all(letter.isprintable() or letter.isspace() for letter in text):
        return Kind(f"a text file that begins with {text[:_SHOWN]!r}", "name the model's own file")
    return None
