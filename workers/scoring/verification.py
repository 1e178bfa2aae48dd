"""What the worker asks of the process that verifies versions, and within which limits."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec


class VerificationLimits(msgspec.Struct, frozen=True):
    """What one verification may take.

    `cpu_seconds` bounds a model that runs. `seconds` bounds one that waits; it is long, because a
    busy or paused machine is no reason to refuse a model. `memory_mb` is address space beyond what
    the process has at the start of the verification, plus 24 bytes for each byte of the file.
    """

    cpu_seconds: int = 60
    seconds: int = 600
    memory_mb: int = 512


VERIFICATION_LIMITS: Final = VerificationLimits()


class FeatureNames(NamedTuple):
    """The part of a feature set that verification needs."""

    name: str
    names: tuple[str, ...]


class VerificationRequest(msgspec.Struct, frozen=True):
    """One version to verify. `size_limit` is that of its model.onnx, in bytes."""

    folder: str
    feature_sets: Sequence[FeatureNames]
    size_limit: int
    limits: VerificationLimits
