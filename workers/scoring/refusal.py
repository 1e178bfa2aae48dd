"""Why a model version is refused. The codes are stable: tools may match on them.

A refusal means that the model's owner is at fault. The version is not used, and the version that
was in force stays in force.
"""

from enum import StrEnum
from pathlib import Path
from typing import NamedTuple


class ModelReason(StrEnum):
    """The codes, in the order in which verification checks a version."""

    # A file is not a regular file, or leads out of the models folder.
    PATH = "path"
    # A file is larger than allowed.
    SIZE = "size"
    # manifest.json is missing or not valid.
    MANIFEST = "manifest"
    # The manifest's objective and version are not those of the folder.
    FOLDER = "folder"
    # model.onnx is not the file that the manifest describes.
    HASH = "hash"
    # model.onnx is missing, is not an ONNX model, or onnxruntime cannot run it.
    UNREADABLE = "unreadable"
    # The values of a tensor lie in another file.
    EXTERNAL_DATA = "external-data"
    # An operator belongs to another domain than ONNX's own.
    OPERATOR_DOMAIN = "operator-domain"
    # The names, dtypes or shapes of input or output are not the manifest's.
    SHAPE = "shape"
    # The feature set lacks features of the model, or the file itself has them in another order.
    FEATURES = "features"
    # A candidate's score depends on the candidates beside it, or changes from run to run.
    BATCH = "batch"
    # A golden row gets another score, or a score is not finite.
    GOLDEN = "golden"


class ModelRefused(Exception):
    """A version that must not be used. The message names the file, the field, the value and what
    was expected.

    `has_advice`: the message itself ends with advice, so general advice must not follow it.
    """

    def __init__(self, reason: ModelReason, message: str, has_advice: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.has_advice = has_advice


class Version(NamedTuple):
    """A folder that claims to be a version of an objective's model."""

    objective: str
    number: int
    folder: Path

    @property
    def name(self) -> str:
        """As logs and messages name it."""
        return f"{self.objective}/{self.number}"


class Refusal(NamedTuple):
    """A version that was refused, and why."""

    version: Version
    reason: ModelReason
    message: str

    def __str__(self) -> str:
        return f"{self.version.name}: {self.reason}: {self.message}"
