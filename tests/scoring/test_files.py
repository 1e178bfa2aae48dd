"""If a file is not an ONNX model, the message says what it is and how to get the model."""

import gzip
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.scoring.building import manifest_of, mlp, trees, write_version
from workers.scoring.files import kind_of, known_kind
from workers.scoring.graph import read_model
from workers.scoring.refusal import ModelReason, ModelRefused
from workers.scoring.verify import verify

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model/data.pkl", b"x")
    return file.getvalue()


KINDS = {
    "nothing": (b"", "an empty file; copy the file again"),
    "a pointer": (POINTER, "a git-lfs pointer; `git lfs pull`"),
    "a page": (b"<!DOCTYPE html>\n<html><body>404", "a web page; download the file"),
    "a page in small letters": (b"\n  <html lang='en'>", "a web page"),
    "a page after a byte order mark": (b"\xef\xbb\xbf<!doctype HTML>", "a web page"),
    "an answer in XML": (
        b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
        "a web page",
    ),
    "a pickle": (
        pickle.dumps({"model": np.arange(3)}),
        "a Python pickle; convert the trained model to ONNX",
    ),
    "an old pickle": (pickle.dumps([1], protocol=2), "a Python pickle"),
    "an archive": (zipped(), "a zip archive, as torch.save writes it; unpack it, or convert"),
    "a packed file": (gzip.compress(mlp().SerializeToString()), "a gzip file; unpack it: gunzip"),
    "Keras": (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
    "CatBoost": (
        b"CBM1" + bytes(100),
        'a model in CatBoost\'s own format; save_model(FILE, format="onnx")',
    ),
    "LightGBM": (b"tree\nversion=v4\nnum_class=1\n", "a model in LightGBM's own format; convert"),
    "XGBoost": (b'{"learner":{"attributes":{}}}', "a model in XGBoost's own format"),
    "XGBoost in UBJSON": (b"{L\x00\x00\x00\x07learner", "a model in XGBoost's own format"),
    "onnxruntime": (
        b"\x20\x00\x00\x00ORTM" + bytes(100),
        "a model in onnxruntime's own format; take the .onnx file",
    ),
    "TensorFlow Lite": (b"\x1c\x00\x00\x00TFL3" + bytes(100), "a TensorFlow Lite model"),
    "safetensors": (
        bytes([20, *[0] * 7]) + b'{"w":{"dtype":"F32"}}',
        "a file of tensors in the safetensors format",
    ),
    "text": (
        b"# to be\ndone",
        r"a text file that begins with '# to be\ndone'; name the model's own file",
    ),
    "text of another script": ("модель".encode() * 200, "a text file that begins with 'модель"),
    "a manifest": (b'{\n "objective": "quality"}', "a text file that begins with"),
}


@pytest.mark.parametrize(("raw", "what"), KINDS.values(), ids=KINDS)
def test_the_kind_of_a_file_is_named(raw: bytes, what: str) -> None:
    assert str(kind_of(raw)).startswith(what)
    with pytest.raises(ModelRefused) as refused:
        read_model(raw)
    assert refused.value.reason is ModelReason.UNREADABLE
    assert refused.value.message.startswith(f"model.onnx: no ONNX model: got {what}")
    assert refused.value.has_advice


@pytest.mark.parametrize(
    "raw", [mlp().SerializeToString(), trees(2).SerializeToString()], ids=["mlp", "trees"]
)
def test_a_model_is_not_of_another_kind(raw: bytes) -> None:
    assert kind_of(raw) is None
    assert read_model(raw).graph.name == "model"


UNKNOWN = {
    "zeros": bytes(100),
    "a model that is cut": mlp().SerializeToString()[:-10],
    "no graph": b"\x08\x08",
    "ones": b"\xff" * 600,
}


@pytest.mark.parametrize("raw", UNKNOWN.values(), ids=UNKNOWN)
def test_bytes_of_an_unknown_kind_are_cut_short_or_of_another_format(raw: bytes) -> None:
    with pytest.raises(
        ModelRefused, match=r"no ONNX model: .* it is cut short or of another format"
    ):
        read_model(raw)


def test_a_manifest_is_not_of_a_known_kind() -> None:
    assert known_kind(b'{"version": 1}') is None
    assert known_kind(b"{") is None


@pytest.mark.parametrize("raw", [b"", POINTER], ids=["empty", "pointer"])
def test_a_version_whose_model_is_a_pointer_or_empty_is_refused_with_that(
    tmp_path: Path, raw: bytes
) -> None:
    folder = write_version(tmp_path, raw, manifest_of(mlp().SerializeToString()))
    with pytest.raises(ModelRefused) as refused:
        verify(folder)
    assert refused.value.reason is ModelReason.HASH
    assert refused.value.message.endswith(f"as in the manifest; it is {known_kind(raw)}")


@pytest.mark.parametrize("raw", [b"", POINTER, b"text"], ids=["empty", "pointer", "text"])
def test_a_version_that_was_made_from_another_file_is_refused_as_unreadable(
    tmp_path: Path, raw: bytes
) -> None:
    with pytest.raises(ModelRefused) as refused:
        verify(write_version(tmp_path, raw, manifest_of(raw)))
    assert refused.value.reason is ModelReason.UNREADABLE


@pytest.mark.parametrize("raw", [b"", POINTER], ids=["empty", "pointer"])
def test_a_manifest_that_is_a_pointer_or_empty_is_refused_with_that(
    tmp_path: Path, raw: bytes
) -> None:
    folder = write_version(tmp_path, b"", manifest_of(b""))
    (folder / "manifest.json").write_bytes(raw)
    with pytest.raises(ModelRefused) as refused:
        verify(folder)
    assert refused.value.reason is ModelReason.MANIFEST
    assert refused.value.message.endswith(f"; it is {known_kind(raw)}")
