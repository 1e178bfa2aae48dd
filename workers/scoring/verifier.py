"""Versions verified in a process beside this one: what a model does to that process it does to no
worker.
"""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

import msgspec

from workers.ranking.features import FeatureSet
from workers.scoring.catalogue import Rejected, Verdict
from workers.scoring.refusal import ModelReason
from workers.scoring.verifier_process import (
    VERIFICATION_LIMITS,
    FeatureNames,
    VerificationLimits,
    VerificationRequest,
)
from workers.scoring.verify import SIZE_LIMIT

_VERDICTS = msgspec.json.Decoder(Verdict)
_Process = subprocess.Popen[bytes]


class Verifier:
    """Starts its process when it is wanted, keeps it for the next exam, and replaces one that died.

    One thread at a time, but for `close`, which any thread may call.
    """

    def __init__(
        self,
        size_limit: int = SIZE_LIMIT,
        limits: VerificationLimits = VERIFICATION_LIMITS,
        idle_seconds: float = 300.0,
    ) -> None:
        self._size_limit, self._limits, self._idle_seconds = size_limit, limits, idle_seconds
        self._process: _Process | None = None
        self._used_at = 0.0
        self._closing = threading.Lock()
        self._closed = False

    def examine(self, folder: Path, feature_sets: Iterable[FeatureSet] = ()) -> Verdict:
        """Verify `<root>/<objective>/<version>`, whatever comes of it: a model that ends the
        process is refused.
        """
        reads = [FeatureNames(feature_set.name, feature_set.names) for feature_set in feature_sets]
        request_ = VerificationRequest(
            str(folder.absolute()), reads, self._size_limit, self._limits
        )
        try:
            process = self._running()
            answer = _ask(process, msgspec.json.encode(request_))
        except OSError as error:
            return _unexamined(f"no process to verify it: {error}")
        self._used_at = time.monotonic()
        if answer.endswith(b"\n"):
            verdict: Verdict = _VERDICTS.decode(answer)
            return verdict
        return _unexamined(self._ended_by(_end(process)))

    @property
    def pid(self) -> int | None:
        """Of its process, where it has one."""
        return self._process.pid if self._process is not None else None

    def rest(self) -> None:
        """Let the process go where nothing was examined for `idle_seconds`: it takes memory."""
        if self._process is not None and time.monotonic() >= self._used_at + self._idle_seconds:
            _stop(self._process)
            self._process = None

    def close(self) -> None:
        """End the process, also in an exam; no other is started."""
        with self._closing:
            self._closed = True
        if self._process is not None:
            _stop(self._process)

    def __enter__(self) -> "Verifier":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _running(self) -> _Process:
        with self._closing:
            if self._closed:
                raise RuntimeError("the examiner is closed")
            if self._process is None or self._process.poll() is not None:
                self._process = _start()
            return self._process

    def _ended_by(self, code: int) -> str:
        if code == -signal.SIGXCPU:
            return f"takes more than the {self._limits.cpu_seconds} s of CPU time that verification may take"
        if code == -signal.SIGALRM:
            return f"takes more than the {self._limits.seconds} s that verification may take"
        by = (
            f"by signal {-code} ({signal.Signals(-code).name})"
            if code < 0
            else f"with exit code {code}"
        )
        return f"the process that verified it ended {by}"


def _start() -> _Process:
    command = [sys.executable, "-m", "workers.scoring.verifier_process"]
    # A session of its own: Ctrl-C is for the worker, which ends this process by its pipe.
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )


def _ask(process: _Process, request_: bytes) -> bytes:
    """One line for one line; a line without its end where the process died."""
    to, back = _pipes(process)
    with suppress(BrokenPipeError):
        to.write(request_ + b"\n")
        to.flush()
    return back.readline()


def _stop(process: _Process) -> None:
    process.kill()
    _end(process)


def _end(process: _Process) -> int:
    """Wait for a process that is ending; returns its exit code."""
    for pipe in _pipes(process):
        with suppress(BrokenPipeError):
            pipe.close()
    return process.wait()


def _pipes(process: _Process) -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def _unexamined(why: str) -> Rejected:
    return Rejected(ModelReason.UNREADABLE, f"model.onnx: {why}")
