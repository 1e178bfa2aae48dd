"""Reads a version's files. If a file is of the wrong kind, says which kind it is.

The rules for reading:

- A file must be a regular file inside the models folder, no larger than allowed. This is checked
  before a byte is read.
- Links may lead anywhere inside the models folder (Kubernetes mounts are made of them), but not out
  of it.
"""

import re
from pathlib import Path
from typing import NamedTuple

from workers.scoring.refusal import ModelReason, ModelRefused

MANIFEST = "manifest.json"
MODEL = "model.onnx"

_BEGINNING = 512
_SHOWN = 40


def read_file(path: Path, root: Path, limit: int) -> bytes:
    """The bytes of `path`, which must lie under `root` and have at most `limit` bytes.

    Raises ModelRefused (`path`, `size`, `unreadable`), FileNotFoundError.
    """
    try:
        real = path.resolve(strict=True)
        if not real.is_relative_to(root.resolve()):
            raise ModelRefused(
                ModelReason.PATH, f"{path}: leads to {real}, expected a file under {root}"
            )

        # Opening a pipe would wait for a writer for ever.
        if not real.is_file():
            raise ModelRefused(ModelReason.PATH, f"{path}: expected a regular file")

        size = real.stat().st_size
        if size > limit:
            raise ModelRefused(
                ModelReason.SIZE, f"{path}: got {size} bytes, expected at most {limit}"
            )

        with real.open("rb") as file:
            # A file that grows in the meantime is cut here. Its hash will not match.
            return file.read(limit)
    except FileNotFoundError:
        raise
    # Path.resolve raises RuntimeError for a circle of links. A worker without memory for a file
    # goes on without it.
    except (OSError, RuntimeError, MemoryError) as error:
        raise ModelRefused(
            ModelReason.UNREADABLE, f"{path}: cannot be read: {str(error) or 'no memory'}"
        ) from None


class FileKind(NamedTuple):
    """What a file is, and how to get the model from it."""

    name: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name}; {self.remedy}"


_COPY = "copy the file again"
_CONVERT = "convert the trained model to ONNX: onnx_models/README.md has recipes"
_EMPTY = FileKind("an empty file", _COPY)

# A pattern for the first bytes of a file, and the kind that it shows.
_KINDS = (
    (
        rb"version https://git-lfs",
        FileKind("a git-lfs pointer", "`git lfs pull` fetches the file that it stands for"),
    ),
    (
        rb"(?i)\s*(<!doctype html|<html|<\?xml)",
        FileKind("a web page", "download the file, not the page that shows it"),
    ),
    (rb"\x80[\x02-\x05]", FileKind("a Python pickle", _CONVERT)),
    (
        rb"PK\x03\x04",
        FileKind("a zip archive, as torch.save writes it", f"unpack it, or {_CONVERT}"),
    ),
    (rb"\x1f\x8b", FileKind("a gzip file", "unpack it: gunzip")),
    (rb"\x89HDF", FileKind("an HDF5 file, as Keras writes it", _CONVERT)),
    (rb"CBM1", FileKind("a model in CatBoost's own format", 'save_model(FILE, format="onnx")')),
    (rb"tree\r?\nversion=", FileKind("a model in LightGBM's own format", _CONVERT)),
    (rb'\{"learner"|\{L|binf', FileKind("a model in XGBoost's own format", _CONVERT)),
    (
        rb"....ORTM",
        FileKind("a model in onnxruntime's own format", "take the .onnx file that it was made of"),
    ),
    (rb"....TFL3", FileKind("a TensorFlow Lite model", _CONVERT)),
    (rb'.{7}\x00\{"', FileKind("a file of tensors in the safetensors format", _CONVERT)),
)


def known_kind(raw: bytes) -> FileKind | None:
    """The kind of a file that is certainly not an ONNX model or a manifest, by its first bytes.

    None if it may be one.
    """
    if not raw:
        return _EMPTY

    beginning = raw[:_BEGINNING].removeprefix(b"\xef\xbb\xbf")
    for pattern, kind in _KINDS:
        if re.match(pattern, beginning, re.DOTALL):
            return kind
    return None


def kind_of(raw: bytes) -> FileKind | None:
    """The kind of a file that cannot be read as an ONNX model. None if it is not known."""
    known = known_kind(raw)
    if known is not None:
        return known

    beginning = raw[:_BEGINNING]
    text = beginning.decode("utf-8", errors="ignore")
    is_text = len(text.encode()) > len(beginning) - 4  # the last letter may be cut
    if is_text and all(letter.isprintable() or letter.isspace() for letter in text):
        return FileKind(
            f"a text file that begins with {text[:_SHOWN]!r}", "name the model's own file"
        )
    return None
