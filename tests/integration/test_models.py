"""Models swapped in mid-stream: no feed missing or twice, and each by exactly one version of each
objective.
"""

from contextlib import suppress

import psutil

from tests.integration.harness import WorkerProcess, World, until
from tests.integration.test_faults import streaming, wait_for_more
from tests.scoring.building import add_endless, add_model, mlp


def test_versions_that_come_in_mid_stream_take_over_and_a_bad_one_does_not(world: World) -> None:
    models = world.folder / "models"
    with streaming(world, 6) as stream:
        worker = world.start_worker()
        wait_for_more(world)
        add_model(models, mlp(seed=3), "quality", 2)
        worker.wait_for("event=models_swapped")
        wait_for_more(world)
        add_model(models, mlp(seed=4), "engagement", 2, sha256="0" * 64)
        worker.wait_for("event=model_refused")
        wait_for_more(world)
    stream.check()
    used = {
        (feed["models"]["quality"], feed["models"]["engagement"])
        for feed in world.read_feeds(len(stream))
    }
    assert used == {(1, 1), (2, 1)}


def examining(worker: WorkerProcess) -> list[psutil.Process]:
    """Its process that has been at an exam for longer than it takes to start and to look at a small
    model.
    """
    with suppress(psutil.NoSuchProcess):
        return [
            child
            for child in psutil.Process(worker.process.pid).children()
            if child.cpu_times().user > 3
        ]
    return []


def test_while_an_endless_model_is_examined_feeds_go_on_and_another_version_takes_over(
    world: World,
) -> None:
    models = world.folder / "models"
    with streaming(world, 7) as stream:
        worker = world.start_worker()
        wait_for_more(world)
        add_model(models, mlp(seed=3), "quality", 2)
        worker.wait_for("event=models_swapped")
        add_endless(models, "engagement", 2)
        until(lambda: bool(examining(worker)))
        (exams,) = examining(worker)
        assert world.trimtab("models", "activate", "quality", "1", "--wait", "60").returncode == 0
        worker.wait_for("event=models_swapped", times=2)
        wait_for_more(world)
        assert "event=model_refused" not in worker.said(), "it is still being examined"
    stream.check()
    used = {
        (feed["models"]["quality"], feed["models"]["engagement"])
        for feed in world.read_feeds(len(stream))
    }
    assert used == {(1, 1), (2, 1)}
    assert worker.terminate() == 0
    assert not exams.is_running()
