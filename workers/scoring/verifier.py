"""Verifies versions in a process beside this one, so that a model can harm only that process.

The protocol is one line of JSON for one line: a VerificationRequest to the process, a Verdict back.
A line without its end means that the process died while it verified: the model is refused.
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
from workers.scoring.reopen import SIZE_LIMIT
from workers.scoring.verification import (
    VERIFICATION_LIMITS,
    FeatureNames,
    VerificationLimits,
    VerificationRequest,
)

_VERDICTS = msgspec.json.Decoder(Verdict)
_Process = subprocess.Popen[bytes]


class Verifier:
    """Starts its process for the first verification, keeps it for the next ones, and replaces it if
    it died.

    For one thread at a time, except for `close`, which any thread may call.
    """

    def __init__(
        self,
        size_limit: int = SIZE_LIMIT,
        limits: VerificationLimits = VERIFICATION_LIMITS,
        idle_seconds: float = 300.0,
    ) -> None:
        self._size_limit = size_limit
        self._limits = limits
        self._idle_seconds = idle_seconds
        self._process: _Process | None = None
        self._used_at = 0.0
        self._closing = threading.Lock()
        self._closed = False

    def verify(self, folder: Path, feature_sets: Iterable[FeatureSet] = ()) -> Verdict:
        """Verify `<root>/<objective>/<version>`. A model that ends the process is refused."""
        request = VerificationRequest(
            folder=str(folder.absolute()),
            feature_sets=[FeatureNames(each.name, each.names) for each in feature_sets],
            size_limit=self._size_limit,
            limits=self._limits,
        )
        try:
            process = self._running_process()
            reply = _exchange(process, msgspec.json.encode(request))
        except OSError as error:
            return _not_verified(f"no process to verify it: {error}")
        self._used_at = time.monotonic()

        if reply.endswith(b"\n"):
            verdict: Verdict = _VERDICTS.decode(reply)
            return verdict
        return _not_verified(self._why_ended(_wait_for_end(process)))

    @property
    def pid(self) -> int | None:
        """The id of its process, if it has one."""
        return self._process.pid if self._process is not None else None

    def stop_if_idle(self) -> None:
        """Stop the process if it has verified nothing for `idle_seconds`: it takes memory."""
        if self._process is not None and time.monotonic() >= self._used_at + self._idle_seconds:
            _kill(self._process)
            self._process = None

    def close(self) -> None:
        """End the process, even while it verifies. No other is started."""
        with self._closing:
            self._closed = True
        if self._process is not None:
            _kill(self._process)

    def __enter__(self) -> "Verifier":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _running_process(self) -> _Process:
        with self._closing:
            if self._closed:
                raise RuntimeError("the verifier is closed")
            if self._process is None or self._process.poll() is not None:
                # In a session of its own: Ctrl-C is meant for the worker, which then closes it.
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "workers.scoring.verifier_process"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    start_new_session=True,
                )
            return self._process

    def _why_ended(self, code: int) -> str:
        if code == -signal.SIGXCPU:
            limit = f"{self._limits.cpu_seconds} s of CPU time"
            return f"takes more than the {limit} that verification may take"
        if code == -signal.SIGALRM:
            return f"takes more than the {self._limits.seconds} s that verification may take"
        if code < 0:
            name = signal.Signals(-code).name
            return f"the process that verified it ended by signal {-code} ({name})"
        return f"the process that verified it ended with exit code {code}"


def _exchange(process: _Process, line: bytes) -> bytes:
    """Write one line and read one line. What is read has no line end if the process died."""
    stdin, stdout = _pipes(process)
    with suppress(BrokenPipeError):
        stdin.write(line + b"\n")
        stdin.flush()
    return stdout.readline()


def _kill(process: _Process) -> None:
    process.kill()
    _wait_for_end(process)


def _wait_for_end(process: _Process) -> int:
    """Wait for a process that is ending. Returns its exit code."""
    for pipe in _pipes(process):
        with suppress(BrokenPipeError):
            pipe.close()
    return process.wait()


def _pipes(process: _Process) -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def _not_verified(why: str) -> Rejected:
    return Rejected(ModelReason.UNREADABLE, f"model.onnx: {why}")
