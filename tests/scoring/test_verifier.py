"""Versions are verified by a real process. The models are real, and so are the signals."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import onnx
import psutil
import pytest

from tests.rig.process import until
from tests.scoring.building import WIDE, add_endless, add_model, endless, golden_of, hungry, mlp
from workers.ranking.features import FeatureSet
from workers.scoring.catalogue import Rejected, Verdict, Verified
from workers.scoring.model import ROWS_PER_CALL
from workers.scoring.refusal import ModelReason
from workers.scoring.verification import VerificationLimits
from workers.scoring.verifier import Verifier


@pytest.fixture
def verifier() -> Iterator[Verifier]:
    with Verifier(limits=VerificationLimits(cpu_seconds=2)) as verifier:
        yield verifier


def refusal(verdict: Verdict) -> str:
    assert isinstance(verdict, Rejected)
    assert verdict.reason is ModelReason.UNREADABLE
    return verdict.message


def pid_of(verifier: Verifier) -> int:
    until(lambda: verifier.pid is not None)
    assert verifier.pid is not None
    return verifier.pid


def is_verifying(pid: int) -> bool:
    """Whether the process has used more CPU time than its start and reading the model take."""
    return psutil.Process(pid).cpu_times().user > 3


def test_a_verified_version_comes_back_with_what_it_takes_to_open_it(
    tmp_path: Path, verifier: Verifier
) -> None:
    folder = add_model(tmp_path, mlp())
    verdict = verifier.verify(folder, [WIDE])
    assert isinstance(verdict, Verified)
    assert (verdict.manifest.objective, verdict.manifest.version) == ("quality", 1)
    assert verdict.rows_per_call == ROWS_PER_CALL
    assert verdict.size == (folder / "model.onnx").stat().st_size


def test_a_version_is_checked_against_the_feature_sets_and_the_size_limit(
    tmp_path: Path,
) -> None:
    folder = add_model(tmp_path, mlp())
    narrow = FeatureSet("narrow", WIDE.names[:31])
    with Verifier(size_limit=100) as strict, Verifier() as other:
        too_large = strict.verify(folder)
        lacks_features = other.verify(folder, [WIDE, narrow])

    assert isinstance(too_large, Rejected)
    assert too_large.reason is ModelReason.SIZE
    assert isinstance(lacks_features, Rejected)
    assert lacks_features.reason is ModelReason.FEATURES
    assert "feature set 'narrow'" in lacks_features.message


def test_many_versions_are_verified_by_one_process(tmp_path: Path, verifier: Verifier) -> None:
    pids = set()
    for version in (1, 2, 3):
        folder = add_model(tmp_path, mlp(seed=version), version=version)
        assert isinstance(verifier.verify(folder), Verified)
        pids.add(verifier.pid)
    assert len(pids) == 1


def test_an_endless_model_is_refused_by_its_cpu_time_and_the_next_is_verified(
    tmp_path: Path, verifier: Verifier
) -> None:
    message = refusal(verifier.verify(add_endless(tmp_path)))
    assert message == "model.onnx: takes more than the 2 s of CPU time that verification may take"
    assert isinstance(verifier.verify(add_model(tmp_path, mlp(), version=2)), Verified)


def test_each_verification_has_a_cpu_time_of_its_own(tmp_path: Path) -> None:
    folder = add_model(tmp_path, mlp(hidden=(512, 512)))
    with Verifier(limits=VerificationLimits(cpu_seconds=1)) as verifier:
        assert isinstance(verifier.verify(folder), Verified)
        pid = pid_of(verifier)
        while psutil.Process(pid).cpu_times().user < 4:
            assert isinstance(verifier.verify(folder), Verified)
        assert verifier.pid == pid


def test_a_model_that_takes_too_long_by_the_clock_is_refused(tmp_path: Path) -> None:
    with Verifier(limits=VerificationLimits(seconds=1)) as verifier:
        message = refusal(verifier.verify(add_endless(tmp_path)))
    assert message == "model.onnx: takes more than the 1 s that verification may take"


@pytest.mark.parametrize("built", [hungry(), endless(grows=True)], ids=["at once", "bit by bit"])
def test_a_model_that_takes_too_much_memory_is_refused_and_the_process_lives(
    tmp_path: Path, built: onnx.ModelProto
) -> None:
    with Verifier() as verifier:
        folder = add_model(tmp_path, built, golden=golden_of(mlp()))
        expected = "bad_alloc: wants more than the 514 MiB of memory that verification may take"
        assert expected in refusal(verifier.verify(folder))

        pid = verifier.pid
        assert isinstance(verifier.verify(add_model(tmp_path, mlp(), version=2)), Verified)
        assert verifier.pid == pid


def test_a_model_that_takes_memory_within_the_limit_is_verified(tmp_path: Path) -> None:
    with Verifier() as verifier:
        assert isinstance(verifier.verify(add_model(tmp_path, hungry(2**24))), Verified)


def test_a_process_that_was_killed_between_verifications_is_replaced_and_no_version_is_blamed(
    tmp_path: Path, verifier: Verifier
) -> None:
    folder = add_model(tmp_path, mlp())
    assert isinstance(verifier.verify(folder), Verified)
    pid = pid_of(verifier)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert isinstance(verifier.verify(folder), Verified)
    assert verifier.pid != pid


def verify_in_thread(verifier: Verifier, folder: Path) -> tuple[threading.Thread, list[Verdict]]:
    verdicts: list[Verdict] = []
    thread = threading.Thread(target=lambda: verdicts.append(verifier.verify(folder)), daemon=True)
    thread.start()
    return thread, verdicts


def test_a_model_that_ends_the_process_is_refused_and_the_process_replaced(tmp_path: Path) -> None:
    with Verifier() as verifier:
        thread, verdicts = verify_in_thread(verifier, add_endless(tmp_path))
        os.kill(pid_of(verifier), signal.SIGSEGV)
        thread.join()
        message = refusal(verdicts[0])
        assert message == "model.onnx: the process that verified it ended by signal 11 (SIGSEGV)"
        assert isinstance(verifier.verify(add_model(tmp_path, mlp(), version=2)), Verified)


def test_close_ends_the_process_while_it_verifies(tmp_path: Path) -> None:
    verifier = Verifier()
    thread, _ = verify_in_thread(verifier, add_endless(tmp_path))
    pid = pid_of(verifier)
    verifier.close()
    thread.join()
    assert not psutil.pid_exists(pid)


def test_an_idle_process_is_stopped_and_the_next_verification_starts_another(
    tmp_path: Path,
) -> None:
    folder = add_model(tmp_path, mlp())
    with Verifier(idle_seconds=0) as verifier:
        assert isinstance(verifier.verify(folder), Verified)
        pid = pid_of(verifier)
        verifier.stop_if_idle()
        assert (verifier.pid, psutil.pid_exists(pid)) == (None, False)
        assert isinstance(verifier.verify(folder), Verified)
    with Verifier(idle_seconds=3600) as patient:
        assert isinstance(patient.verify(folder), Verified)
        patient.stop_if_idle()
        assert patient.pid is not None


def test_if_the_parent_is_killed_the_process_ends_even_while_an_endless_model_runs(
    tmp_path: Path,
) -> None:
    code = (
        "import sys; from pathlib import Path; from workers.scoring.verifier import Verifier; "
        "Verifier().verify(Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(add_endless(tmp_path))]
    # Parent and process both hold the writing end of this pipe. It is at its end when both are gone.
    with subprocess.Popen(command, stderr=subprocess.PIPE) as parent:
        children = psutil.Process(parent.pid).children
        until(lambda: any(is_verifying(child.pid) for child in children()))
        parent.kill()
        assert parent.stderr is not None
        assert parent.stderr.read() == b""


def test_the_process_imports_neither_kafka_nor_redis_nor_the_command_line() -> None:
    code = "import sys, workers.scoring.verifier_process; print(*sys.modules)"
    listed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"confluent_kafka", "redis", "click", "structlog", "workers.cli"} & set(listed)


def test_a_worker_does_not_import_the_onnx_library() -> None:
    code = "import sys, workers.commands.worker, workers.commands.worker_parts; print(*sys.modules)"
    listed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "workers.scoring.reopen" in listed
    assert not {"onnx", "faust", "matplotlib", "sklearn"} & set(listed)
