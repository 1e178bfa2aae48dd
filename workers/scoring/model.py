"""A model that scores: an onnxruntime session, and the manifest that it was verified against.

A candidate's score has the same bytes whatever is beside it in the batch, so that a replay gives
the same feeds. onnxruntime alone does not guarantee that. Measured on 1.32 (float32, one thread):
- A batch of one row runs gemv kernels, which round differently (LinearRegressor, SVMRegressor). The
  last rows of a batch fall out of the vector loop into scalar code, which rounds differently, too
  (Log, Softplus, Sin, Cos, Mish). Neither happens in a batch that is filled up to a multiple of 16
  rows (one AVX-512 register of float32): every row takes the vector path.
- A sum over each row (ReduceSum over a width that is not a multiple of 4) rounds differently
  depending on where the row lies in memory. Filling up does not help. Verification
  finds such a model (verify.py), and it is scored one row a call.
Gemm, MatMul, Relu, Sigmoid, Tanh, Gelu, Erf, Softmax, LayerNormalization and tree ensembles never
differed.

A run that does not end is stopped: a verified model may still loop for ever over a row that
verification never saw. onnxruntime looks at a flag between two operators, also inside a loop. A
thread of this module sets the flag of a run that is past its limit. It wakes up twice a second, so
that a run costs only two assignments, and a limit is exceeded by at most half a second.
"""

import itertools
import math
import threading
import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from workers.ranking.features import FeatureSet
from workers.scoring.manifest import Manifest
from workers.scoring.refusal import ModelReason, ModelRefused

# A worker reports to nobody but its owner. Measured on 1.32, a call that fails then costs 30 us
# instead of 370.
onnxruntime.disable_telemetry_events()

Matrix = NDArray[np.float32]

ROWS_PER_CALL = 1024
"""A call does not get much cheaper by the row beyond this size. And what it needs in between fits
into the processor's cache, and into memory that the process has: the C library gives buffers of
megabytes back to the system after each call, and each page of them is zeroed again for the next.
Measured, 8,192 rows of a small model in one call cost 0.1 us a row more in a worker.
"""

_FILL = 16
_WATCH_SECONDS = 0.5


class RunFailed(Exception):
    """A model could not score some rows. The message says what went wrong.

    Verification cannot rule this out.
    """


class _Run(NamedTuple):
    deadline: float
    options: onnxruntime.RunOptions


class RunLimits:
    """Stops runs that take too long, for all threads of a process.

    To use it, `begin` a run, pass the options to the session, and `end` the run.
    """

    def __init__(self) -> None:
        self._runs: dict[int, _Run] = {}
        self._numbers = itertools.count()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin(self, seconds: float) -> tuple[int, onnxruntime.RunOptions]:
        """The number of a new run, and the options that stop it `seconds` from now."""
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._watch, name="run-limits", daemon=True
                    )
                    self._thread.start()

        options = onnxruntime.RunOptions()
        number = next(self._numbers)
        self._runs[number] = _Run(time.monotonic() + seconds, options)
        return number, options

    def end(self, number: int) -> None:
        """The run is over."""
        del self._runs[number]

    def _watch(self) -> None:
        pause = threading.Event()
        while not pause.wait(_WATCH_SECONDS):
            now = time.monotonic()
            # A copy: other threads begin and end runs in the meantime.
            for run in list(self._runs.values()):
                if now >= run.deadline:
                    run.options.terminate = True


RUN_LIMITS = RunLimits()


@dataclass(frozen=True)
class Model:
    """One verified version. `rows_per_call` is 1 if a row's score depends on its position in the
    batch.
    """

    manifest: Manifest
    session: onnxruntime.InferenceSession
    rows_per_call: int = ROWS_PER_CALL

    def score(self, matrix: Matrix, seconds: float = math.inf) -> Matrix:
        """Score candidates: float32 `[N, features]` in the manifest's order of features to float32
        `[N]`.

        A call that takes longer than `seconds` is stopped. Raises RunFailed if any row fails,
        without saying which.
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
        # Always a buffer of our own: a kernel may round by the alignment of the caller's. It is
        # filled up with the last row: a model that fails on zeros must not fail because of them.
        count, width = rows.shape
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

        # A graph may return another number of scores for some rows, whatever it declares.
        if scores.size != len(block) or scores.dtype != np.float32:
            got = f"{scores.dtype} {list(scores.shape)}"
            raise RunFailed(f"output: got {got}, expected float32 [{len(block)},1]")
        filled: Matrix = scores.reshape(len(block))
        return filled[:count]

    def columns(self, feature_set: FeatureSet) -> NDArray[np.intp] | None:
        """The columns of a feature set that the model reads. None if it reads all as they are.

        Raises ModelRefused if the feature set does not hold one of them.
        """
        if self.manifest.features == feature_set.names:
            return None
        check_features(self.manifest, feature_set)
        return np.array([feature_set.names.index(name) for name in self.manifest.features], np.intp)


def check_features(manifest: Manifest, feature_set: FeatureSet) -> None:
    """Raises ModelRefused if a model reads features that the feature set does not hold."""
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
    # There is one worker process for each core. A second thread would only take the core of another
    # worker, and a spinning one would take all of it.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")

    # Both would keep memory for good: for the largest batch, and for each size of batch. Scoring is
    # as fast without them.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False

    # The format that was checked, not one that onnxruntime sees in the same bytes.
    options.add_session_config_entry("session.load_model_format", "ONNX")

    # Print only fatal errors. A call that fails raises anyway, and would be printed for every row
    # that is tried.
    options.log_severity_level = 4
    return options
