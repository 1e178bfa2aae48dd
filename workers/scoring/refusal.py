"""Why a model version is refused. Every code is stable: tools may match on it.

`ModelRefused` means the model's owner is at fault: the version is not used, and whatever was in
force goes on.
"""

from enum import StrEnum
from pathlib import Path
from typing import NamedTuple


class ModelReason(StrEnum):
    """Codes of a refusal, in the order in which a version is examined."""

    PATH = "path"  # a file is no regular file, or leads out of the models' folder
    SIZE = "size"  # a file is larger than allowed
    MANIFEST = "manifest"  # manifest.json is missing, or does not say what it must
    FOLDER = "folder"  # the manifest's objective and version are not those of the folder
    HASH = "hash"  # model.onnx is not the file that the manifest describes
    UNREADABLE = (
        "unreadable"  # model.onnx is missing, is no ONNX model, or onnxruntime cannot run it
    )
    EXTERNAL_DATA = "external-data"  # a tensor's values lie in another file
    OPERATOR_DOMAIN = "operator-domain"  # an operator of another domain than ONNX's own
    SHAPE = "shape"  # names, dtypes or shapes of input or output are not the manifest's
    FEATURES = (
        "features"  # features that the feature set does not hold, or another order inside the file
    )
    BATCH = "batch"  # a candidate's score depends on the candidates beside it, or changes from run to run
    GOLDEN = "golden"  # a golden row does not come out, or a score is not finite


class ModelRefused(Exception):
    """A version that must not be used: the message names the file, the field, the value and what
    was expected.

    `says_what_to_do`: the message itself ends with it, so that no general advice is to follow.
    """

    def __init__(self, reason: ModelReason, message: str, says_what_to_do: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.says_what_to_do = says_what_to_do


class Version(NamedTuple):
    """A folder that claims to be a version of an objective's model."""

    objective: str
    number: int
    folder: Path


class Refusal(NamedTuple):
    """A version that was passed over, and why."""

    version: Version
    reason: ModelReason
    message: str

    def __str__(self) -> str:
        return f"{self.version.objective}/{self.version.number}: {self.reason}: {self.message}"
