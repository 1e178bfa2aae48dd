"""A worker or the broker is killed again and again under load: nothing is lost or doubled.

`make test` runs these with three kills (tests/integration/test_faults.py). `make trial ARGS=kills`
runs them with ten. Ten kills of a broker take two minutes; in about every third run of four kills,
librdkafka has had a call that never returned (#5456).
"""

from tests.rig.environment import Environment
from tests.rig.judge import check_stream
from tests.rig.traffic import RequestStream
from workers.local import Stack


def kill_worker(env: Environment, times: int) -> int:
    """Kill the only worker and start another, `times` times. Returns how many feeds were judged."""
    with RequestStream(env.sender(), seed=1) as stream:
        for _ in range(times):
            worker = env.start_worker()
            env.wait_for_more()
            worker.kill()
        env.start_worker()
    check_stream(env, stream)
    return len(stream)


def kill_broker(env: Environment, stack: Stack, times: int) -> int:
    """Kill the broker under two workers, `times` times. Returns how many feeds were judged.

    Each time both workers wait for it, and neither ends.
    """
    with RequestStream(env.sender(), seed=4) as stream:
        workers = [env.start_worker(), env.start_worker()]
        for worker in workers:
            worker.wait_for("event=restored")
        for _ in range(times):
            env.wait_for_more()
            stack.kill_kafka()
            stack.start_kafka()
        for worker in workers:
            worker.wait_for("event=kafka_back")
        env.wait_for_more()
    check_stream(env, stream)

    for worker in workers:
        assert worker.is_running(), worker.logged()
        assert worker.terminate() == 0, worker.logged()
    return len(stream)
