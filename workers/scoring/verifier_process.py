"""The process that verifies versions, within limits: a model may run for ever, take all memory, or
crash.

`python -m workers.scoring.verifier_process` reads one VerificationRequest a line from standard
input, and writes one Verdict a line to standard output.

- Exceeding the limit of CPU time or of time ends the process.
- Exceeding the limit of memory only fails this verification.
- The process also ends when its standard input ends.
"""

import os
import queue
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from workers.ranking.features import FeatureSet
from workers.scoring.catalogue import Rejected, Verdict, Verified
from workers.scoring.files import MODEL
from workers.scoring.refusal import ModelReason, ModelRefused
from workers.scoring.session_cache import session_bytes
from workers.scoring.verification import VerificationLimits, VerificationRequest
from workers.scoring.verify import verify

MB: Final = 1024 * 1024

_NICE = 5
_STATM = Path("/proc/self/statm")
# Verification may take N times the memory of a session. Measured: an ensemble of trees took up to
# 20 times its file while it was verified (the graph as Python and as onnxruntime read it, and their
# copies), Gemm layers 3.5 times.
_MEMORY_IN_SESSIONS = 8
_NO_MEMORY = "bad_alloc"  # all that onnxruntime says if it gets no memory


def main() -> None:
    """Verify one version after the other until standard input ends."""
    os.nice(_NICE)
    _limit(resource.RLIMIT_CORE, 0)

    # Whatever a library prints must not get between the verdicts.
    verdicts = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(
        target=_read_requests, args=(sys.stdin.buffer, requests), name="requests", daemon=True
    ).start()
    while True:
        request = msgspec.json.decode(requests.get(), type=VerificationRequest)
        verdict = _verify_within_limits(request)
        verdicts.write(msgspec.json.encode(verdict) + b"\n")
        verdicts.flush()


def _read_requests(lines: BinaryIO, requests: "queue.SimpleQueue[bytes]") -> None:
    """Read requests in a thread, so that the process ends if the parent ends while a model runs.

    onnxruntime releases Python's lock while it runs.
    """
    for line in lines:
        requests.put(line)
    os._exit(0)


def _verify_within_limits(request: VerificationRequest) -> Verdict:
    folder = Path(request.folder)
    try:
        file_size = (folder / MODEL).stat().st_size
    except OSError:
        file_size = 0

    memory = request.limits.memory_mb * MB + _MEMORY_IN_SESSIONS * session_bytes(file_size)
    past_memory = f"wants more than the {memory // MB} MiB of memory that verification may take"
    _set_limits(request.limits, memory)
    try:
        feature_sets = [FeatureSet(*each) for each in request.feature_sets]
        model = verify(folder, feature_sets, request.size_limit)
        manifest = msgspec.structs.replace(model.manifest, golden=model.manifest.golden[:1])
        return Verified(manifest, model.rows_per_call, size=(folder / MODEL).stat().st_size)
    except ModelRefused as refused:
        message = refused.message
        if refused.reason is ModelReason.UNREADABLE and _NO_MEMORY in message:
            message = f"{message}: {past_memory}"
        return Rejected(refused.reason, message)
    except MemoryError:
        return Rejected(ModelReason.UNREADABLE, f"model.onnx: {past_memory}")
    except OSError as error:
        return Rejected(ModelReason.UNREADABLE, f"model.onnx: cannot be read: {error}")
    finally:
        signal.alarm(0)


def _set_limits(limits: VerificationLimits, memory: int) -> None:
    """Limit CPU time, time and memory (bytes) from here on.

    The signals of the first two end the process by default, even if it is deep inside onnxruntime.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_seconds = int(used.ru_utime + used.ru_stime) + 1 + limits.cpu_seconds
    _limit(resource.RLIMIT_CPU, cpu_seconds)

    # Only Linux reports how much address space is in use. Elsewhere memory is not bounded.
    if _STATM.exists():
        pages = int(_STATM.read_text(encoding="ascii").split()[0])
        _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + memory)

    signal.alarm(limits.seconds)


def _limit(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (soft, hard))


if __name__ == "__main__":
    main()
