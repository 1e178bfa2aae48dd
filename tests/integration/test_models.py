"""Models swapped in mid-stream: no feed missing or twice, and each by exactly one version of each
objective.
"""

from contextlib import suppress

import psutil

from tests.rig.environment import Environment
from tests.rig.judge import check_stream
from tests.rig.process import Process, until
from tests.rig.traffic import RequestStream
from tests.scoring.building import add_endless, add_model, mlp


def test_versions_that_come_in_mid_stream_take_over_and_a_bad_one_does_not(
    env: Environment,
) -> None:
    models = env.folder / "models"
    with RequestStream(env.sender(), seed=6) as stream:
        worker = env.start_worker()
        env.wait_for_more()
        add_model(models, mlp(seed=3), "quality", 2)
        worker.wait_for("event=models_swapped")
        env.wait_for_more()
        add_model(models, mlp(seed=4), "engagement", 2, sha256="0" * 64)
        worker.wait_for("event=model_refused")
        env.wait_for_more()
    check_stream(env, stream)
    used = {
        (feed["models"]["quality"], feed["models"]["engagement"])
        for feed in env.read_feeds(len(stream))
    }
    assert used == {(1, 1), (2, 1)}


def verifying(worker: Process) -> list[psutil.Process]:
    """Its process that has been verifying for longer than it takes to start and to verify a small
    model.
    """
    with suppress(psutil.NoSuchProcess):
        return [
            child for child in psutil.Process(worker.pid).children() if child.cpu_times().user > 3
        ]
    return []


def test_while_an_endless_model_is_examined_feeds_go_on_and_another_version_takes_over(
    env: Environment,
) -> None:
    models = env.folder / "models"
    with RequestStream(env.sender(), seed=7) as stream:
        worker = env.start_worker()
        env.wait_for_more()
        add_model(models, mlp(seed=3), "quality", 2)
        worker.wait_for("event=models_swapped")
        add_endless(models, "engagement", 2)
        until(lambda: bool(verifying(worker)))
        (verifier,) = verifying(worker)
        assert env.trimtab("models", "activate", "quality", "1", "--wait", "60").returncode == 0
        worker.wait_for("event=models_swapped", times=2)
        env.wait_for_more()
        assert "event=model_refused" not in worker.logged(), "it is still being verified"
    check_stream(env, stream)
    used = {
        (feed["models"]["quality"], feed["models"]["engagement"])
        for feed in env.read_feeds(len(stream))
    }
    assert used == {(1, 1), (2, 1)}
    assert worker.terminate() == 0
    assert not verifier.is_running()
