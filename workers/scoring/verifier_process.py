"""A process that verifies versions for another, within limits: a model may run for ever, take all
memory, or crash.

`python -m workers.scoring.verifier_process` reads an exam a line from standard input and writes a
verdict a line to standard output. A limit that is passed ends the process, but for memory, which
ends the exam; so does the end of its input.
"""

import os
import queue
import resource
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import msgspec

from workers.ranking.features import FeatureSet
from workers.scoring.catalogue import Rejected, Verdict, Verified
from workers.scoring.manifest import MODEL
from workers.scoring.refusal import ModelReason, ModelRefused
from workers.scoring.session_cache import session_bytes
from workers.scoring.verify import verify

MB: Final = 1024 * 1024

_NICE = 5
_STATM = Path("/proc/self/statm")
# Times what a session takes. Measured: an ensemble of trees took up to 20 times its file while it
# was verified (the graph as Python and as onnxruntime reads it, and their copies), Gemm layers 3.5
# times.
_SESSIONS = 8
_NO_MEMORY = "bad_alloc"  # onnxruntime tells of it by this word alone


class VerificationLimits(msgspec.Struct, frozen=True):
    """What one exam may take. `seconds` is for what waits and does not run: a busy or paused
    machine is no reason.

    `memory_mb` is address space beyond what the process has when the exam begins; to it come 24
    bytes for each byte of the file.
    """

    cpu_seconds: int = 60
    seconds: int = 600
    memory_mb: int = 512


VERIFICATION_LIMITS: Final = VerificationLimits()


class FeatureNames(NamedTuple):
    """A feature set as far as verification wants it."""

    name: str
    names: tuple[str, ...]


class VerificationRequest(msgspec.Struct, frozen=True):
    """One version to be verified; `size_limit` of its file in bytes."""

    folder: str
    feature_sets: Sequence[FeatureNames]
    size_limit: int
    limits: VerificationLimits


def main() -> None:
    """Take one exam after the other until standard input ends."""
    os.nice(_NICE)
    _limit(resource.RLIMIT_CORE, 0)
    # Whatever else a library prints stays out of the verdicts.
    verdicts = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    exams: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(
        target=_read, args=(sys.stdin.buffer, exams), name="exams", daemon=True
    ).start()
    while True:
        verdict = _take(msgspec.json.decode(exams.get(), type=VerificationRequest))
        verdicts.write(msgspec.json.encode(verdict) + b"\n")
        verdicts.flush()


def _read(lines: BinaryIO, exams: "queue.SimpleQueue[bytes]") -> None:
    """In a thread: the parent may go while a model runs. onnxruntime lets go of Python's lock for
    that time.
    """
    for line in lines:
        exams.put(line)
    os._exit(0)


def _take(request_: VerificationRequest) -> Verdict:
    memory = request_.limits.memory_mb * MB + _SESSIONS * session_bytes(_size(request_))
    past_memory = f"wants more than the {memory // MB} MiB of memory that verification may take"
    _set_limits(request_.limits, memory)
    try:
        return _examine(request_)
    except ModelRefused as refused:
        unread = refused.reason is ModelReason.UNREADABLE and _NO_MEMORY in refused.message
        return Rejected(
            refused.reason, f"{refused.message}: {past_memory}" if unread else refused.message
        )
    except MemoryError:
        return Rejected(ModelReason.UNREADABLE, f"model.onnx: {past_memory}")
    except OSError as error:
        return Rejected(ModelReason.UNREADABLE, f"model.onnx: cannot be read: {error}")
    finally:
        signal.alarm(0)


def _size(request_: VerificationRequest) -> int:
    try:
        return (Path(request_.folder) / MODEL).stat().st_size
    except OSError:
        return 0


def _set_limits(limits: VerificationLimits, memory: int) -> None:
    """Signals by their default end the process, also one that is deep inside onnxruntime."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + limits.cpu_seconds)
    if _STATM.exists():  # elsewhere than on Linux nothing tells, and memory is not bounded
        pages = int(_STATM.read_text(encoding="ascii").split()[0])
        _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + memory)
    signal.alarm(limits.seconds)


def _limit(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _examine(request_: VerificationRequest) -> Verified:
    folder = Path(request_.folder)
    model = verify(
        folder, [FeatureSet(*reads) for reads in request_.feature_sets], request_.size_limit
    )
    few = msgspec.structs.replace(model.manifest, golden=model.manifest.golden[:1])
    return Verified(few, model.rows_per_call, (folder / MODEL).stat().st_size)


if __name__ == "__main__":
    main()
