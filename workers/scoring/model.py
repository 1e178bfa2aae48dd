"""A model that scores: an onnxruntime session and the manifest it was verified against.

A candidate's score has the same bytes whatever stands beside it in the batch, so that a replay
gives the same feeds. onnxruntime alone does not promise that. Measured on 1.32 (float32, one
thread):
- a batch of one row runs gemv kernels that round otherwise (LinearRegressor, SVMRegressor), and the
  last rows of a batch fall out of the vector loop into scalar code that rounds otherwise (Log,
  Softplus, Sin, Cos, Mish). Batches filled up to a multiple of 16 rows (one AVX-512 register of
  float32) have neither: every row takes the vector path.
- a sum over each row (ReduceSum over a width that is no multiple of 4) rounds by where the row lies
  in memory, which no filling mends. Verification finds such a model (batching.py) and has it scored
  one row a call.
Gemm, MatMul, Relu, Sigmoid, Tanh, Gelu, Erf, Softmax, LayerNormalization and tree ensembles
differed in no case.
"""

import math
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from workers.ranking.features import FeatureSet
from workers.scoring.manifest import Manifest
from workers.scoring.refusal import ModelReason, ModelRefused
from workers.scoring.run_limit import RUN_LIMITS

# A worker reports to nobody but its owner. Measured on 1.32, a call that fails then costs 30 us
# instead of 370.
onnxruntime.disable_telemetry_events()

Matrix = NDArray[np.float32]

ROWS_PER_CALL = 16_384
"""Bounds the memory of one call; past this size a call is no cheaper a row."""

_FILL = 16


class RunFailed(Exception):
    """A model could not score some rows; the message says what went wrong. Verification cannot rule
    this out.
    """


@dataclass(frozen=True)
class Model:
    """One verified version. `rows_per_call` is 1 where a row's score depends on its place in the
    batch.
    """

    manifest: Manifest
    session: onnxruntime.InferenceSession
    rows_per_call: int = ROWS_PER_CALL

    def score(self, matrix: Matrix, seconds: float = math.inf) -> Matrix:
        """Score candidates: float32 `[N, features]` in the manifest's order of features to float32
        `[N]`.

        A call that takes longer than `seconds` is stopped. Raises RunFailed, whichever of the rows
        is the cause.
        """
        scores = np.empty(len(matrix), np.float32)
        try:
            for start in range(0, len(matrix), self.rows_per_call):
                end = start + self.rows_per_call
                scores[start:end] = self._run(matrix[start:end], seconds)
        except RunFailed:
            raise
        # onnxruntime's errors have no class in common, and memory may run out.
        except Exception as error:
            raise RunFailed(str(error) or type(error).__name__) from error
        return scores

    def _run(self, rows: Matrix, seconds: float) -> Matrix:
        count, width = rows.shape
        # Always a buffer of our own: a kernel may round by the alignment of the caller's. What
        # fills it is a row of the caller's too: a model that fails on zeros fails on no other row
        # because of them.
        block = np.empty((-count % _FILL + count, width), np.float32)
        block[:count] = rows
        block[count:] = rows[-1]
        number, options = RUN_LIMITS.begin(seconds)
        try:
            (scores,) = self.session.run(
                [self.manifest.output.name], {self.manifest.input.name: block}, options
            )
        except Exception as error:
            if options.terminate:
                raise RunFailed(f"does not end: stopped after {seconds:g} s") from error
            raise
        finally:
            RUN_LIMITS.end(number)
        # A graph may give another number of scores for some rows, whatever it declares.
        if scores.size != len(block) or scores.dtype != np.float32:
            raise RunFailed(
                f"output: got {scores.dtype} {list(scores.shape)}, expected float32 [{len(block)},1]"
            )
        filled: Matrix = scores.reshape(len(block))
        return filled[:count]

    def columns(self, feature_set: FeatureSet) -> NDArray[np.intp] | None:
        """Where the model's features stand in a feature set; None where both are the same.

        Raises ModelRefused where the feature set does not hold one of them.
        """
        if self.manifest.features == feature_set.names:
            return None
        check_features(self.manifest, feature_set)
        return np.array([feature_set.names.index(name) for name in self.manifest.features], np.intp)


def check_features(manifest: Manifest, feature_set: FeatureSet) -> None:
    """Refuse a model that reads what the feature set does not hold. Raises ModelRefused."""
    missing = sorted(set(manifest.features) - set(feature_set.names))
    if missing:
        names = ", ".join(map(repr, missing))
        message = f"features: got {names}, expected only names of feature set {feature_set.name!r}"
        raise ModelRefused(ModelReason.FEATURES, message)


def open_model(raw: bytes, manifest: Manifest) -> Model:
    """Open a session from bytes, so that no other file can be read. Raises ModelRefused."""
    try:
        session = onnxruntime.InferenceSession(
            raw,
            _options(),
            providers=["CPUExecutionProvider"],
            enable_fallback=0,
            read_config_from_model=0,
        )
    # onnxruntime's errors have no class in common.
    except Exception as error:
        raise ModelRefused(
            ModelReason.UNREADABLE, f"model.onnx: onnxruntime cannot load it: {error}"
        ) from error
    # The session keeps the file's bytes for a fallback to other providers, which is off.
    session._model_bytes = None
    return Model(manifest, session)


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    # One process a core: a second thread would only take the core of another worker, a spinning one
    # all of it.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # Both keep memory for good, by the largest batch and by each size of batch; off, scoring is as
    # fast.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    # The format that was checked, not one that onnxruntime sees in the same bytes.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # Only what ends the process: a call that fails raises, and would be printed for every row that
    # is tried.
    options.log_severity_level = 4
    return options
