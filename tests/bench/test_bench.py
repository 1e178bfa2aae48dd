"""The benchmark measures what it claims: tiny counts on real servers, and no assertion about how fast
anything is.
"""

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench.backlog import Backlogs
from tests.bench.cost import cost_of
from tests.bench.goals import Goal, Row
from tests.bench.inputs import BATCH_PROTOBUF, INPUTS, Input
from tests.bench.many import measure_models, waits_of
from tests.bench.many_report import ModelsLimits, ModelsReport
from tests.bench.measure import measure_worker
from tests.bench.onnx_share import SessionTime, measure_onnx_share, share_of
from tests.bench.outcome_load import ITEMS, OutcomeLoad
from tests.bench.outcome_report import OutcomeLimits, OutcomeReport
from tests.bench.outcomes import measure_outcomes
from tests.bench.peers_report import compare_feeds
from tests.bench.programs import PLAIN_COUNT
from tests.bench.stages import StageLimits, measure_stages
from tests.bench.steady import Delivered
from tests.bench.tenants import Tenants
from tests.bench.topics import check_keys
from tests.bench.worker_report import YARDSTICK, WorkerLimits, WorkerReport
from tests.rig.environment import Environment
from tests.rig.measured import SURFACES, measured_environment
from tests.rig.times import MS, Times
from tests.rig.traffic import Load, Message
from workers.codec.decoder import Decoder
from workers.surfaces import load_surfaces

TINY = WorkerLimits(
    seed=3,
    backlog_candidates=20_000,
    turns=1,
    rates=(50,),
    stream_seconds=1.2,
    open_requests=50,
)

TINY_MODELS = ModelsLimits(
    seed=3, candidates=10, models=60, held=12, requests=300, rate=100, idle_ms=1000
)

TINY_OUTCOMES = OutcomeLimits(
    seed=3,
    interactions=20,
    backlog_feeds=300,
    backlog_window_s=5,
    turns=1,
    open_feeds=2000,
    restart_feeds=200,
    restart_interactions=3,
    worker_requests=2000,
    worker_pairs=1,
)


@pytest.fixture(scope="module")
def env(kafka: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return measured_environment(kafka, redis_url, tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def report(env: Environment) -> WorkerReport:
    return measure_worker(env, TINY, lambda _: None, sections=("stream", "memory"))


@pytest.fixture(scope="module")
def models(env: Environment) -> ModelsReport:
    return measure_models(env, TINY_MODELS, lambda _: None)


@pytest.fixture(scope="module")
def outcomes(kafka: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> OutcomeReport:
    env = measured_environment(kafka, redis_url, tmp_path_factory.mktemp("outcomes"))
    return measure_outcomes(env, TINY_OUTCOMES, lambda _: None, peers=[PLAIN_COUNT])


def figures(value: object, path: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from figures(inner, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from figures(inner, f"{path}[{place}]")
    elif isinstance(value, int | float):
        yield path, value


def wrong_figures(report: WorkerReport | ModelsReport | OutcomeReport) -> set[str]:
    return {
        path
        for path, figure in figures(report.as_json())
        if not (math.isfinite(figure) and figure > 0) and not path.startswith(".load")
    }


def test_every_figure_of_a_worker_is_finite_and_above_zero(report: WorkerReport) -> None:
    assert wrong_figures(report) == set()


def test_every_figure_about_many_models_is_finite_and_above_zero(models: ModelsReport) -> None:
    assert wrong_figures(models) == set()


def test_every_figure_about_outcomes_is_finite_and_above_zero(outcomes: OutcomeReport) -> None:
    assert wrong_figures(outcomes) == set()


def test_a_report_about_outcomes_covers_join_and_peer_with_the_counts_that_were_asked_for(
    outcomes: OutcomeReport,
) -> None:
    assert [cost.name for cost in outcomes.costs] == ["trimtab outcomes join", "consume and decode"]
    assert {cost.interactions for cost in outcomes.costs} == {6000}
    assert outcomes.memory.feeds == 2000
    assert (outcomes.restart.feeds, outcomes.restart.records) == (200, 800)
    assert outcomes.worker.candidates == 100_000

    page = "\n".join(outcomes.lines())
    assert outcomes.machine.cpu in page
    assert "seed 3" in page
    assert page.count("wins:") == 1


def test_the_load_of_outcomes_says_what_must_be_counted() -> None:
    load = OutcomeLoad(seed=1, window_s=5)
    log = list(load.log(feeds=100, interactions=30))
    assert len(log) == 100 + 100 * 30
    assert len({key for key, _, _ in log}) == 100
    assert load.taken < load.seen
    assert all(request < 100 and place < ITEMS for request, place in load.seen)

    again = OutcomeLoad(seed=1, window_s=5)
    assert [key for key, _, _ in again.log(100, 30)] == [key for key, _, _ in log]
    assert (again.seen, again.taken) == (load.seen, load.taken)


def test_a_report_covers_worker_loop_and_harness_with_the_counts_that_were_asked_for(
    report: WorkerReport,
) -> None:
    (yardstick,) = report.backlogs
    assert (yardstick.name, yardstick.ratio) == (YARDSTICK, 1.0)
    assert [(turn.requests, turn.candidates) for turn in yardstick.turns] == [(400, 20_000)]

    programs = [stream.program for stream in report.streams]
    assert programs == ["trimtab worker", "trimtab worker", "plain loop", "harness alone"]
    assert {one.count for stream in report.streams for one in stream.latencies} == {30}

    assert report.memory is not None
    assert (report.memory.requests, report.memory.candidates) == (50, 2500)


def test_a_page_of_a_worker_says_on_what_from_which_seed_and_what_is_reached(
    report: WorkerReport,
) -> None:
    page = "\n".join(report.lines())
    assert report.machine.cpu in page
    assert "seed 3" in page
    assert page.count("reached") == 2  # memory, and the stream at the default linger


def test_the_share_of_onnxruntime_is_seen_in_a_worker(env: Environment) -> None:
    backlogs = Backlogs(env, seed=3, candidates=60_000)
    own = env.fresh(candidates=backlogs.topic(BATCH_PROTOBUF))
    share = measure_onnx_share(own, BATCH_PROTOBUF, backlogs.requests(BATCH_PROTOBUF))
    assert 0 < share < 1


def test_the_share_of_onnxruntime_counts_the_calls_between_the_first_feed_and_the_last() -> None:
    calls = [SessionTime(at=second, spent=0.1 * second) for second in range(1, 20)]
    assert share_of(EvenlyBusy(), calls, moments=[4.5, 9.0, 14.5]) == pytest.approx(0.2)


def test_stages_are_measured_without_servers_for_each_input(tmp_path: Path) -> None:
    measured_environment(kafka="", redis="", folder=tmp_path)
    limits = StageLimits(seed=3, candidates=2000, repeats=1)
    stages = measure_stages(tmp_path, limits, lambda _: None, inputs=[BATCH_PROTOBUF])
    (cost,) = stages.costs
    assert cost.input == BATCH_PROTOBUF.name
    assert all(figure > 0 for figure in cost.stages.values())
    assert BATCH_PROTOBUF.name in "\n".join(stages.lines())


def feed_of(*scores: float) -> dict[str, Any]:
    """A feed of items a, b, ... with these scores, in this order."""
    items = [
        {"item_id": item_id, "final_score": score, "scores": {"quality": score}}
        for item_id, score in zip("abcdefg", scores, strict=False)
    ]
    return {"request_id": "r", "items": items}


def test_a_peer_may_rank_in_another_order_only_if_the_scores_are_equal_but_for_rounding() -> None:
    ours = {"r": feed_of(0.9, 0.5, 0.5 - 1e-9)}
    same = feed_of(0.9 - 1e-8, 0.5, 0.5)
    same["items"].insert(1, same["items"].pop(2))
    compare_feeds(ours, [same], "peer")

    other_order = feed_of(0.9, 0.5, 0.5)
    other_order["items"].insert(0, other_order["items"].pop(1))
    other_score = feed_of(0.9, 0.5 + 1e-5, 0.5)
    too_short = feed_of(0.9, 0.5)
    for wrong in (other_order, other_score, too_short):
        with pytest.raises(AssertionError, match="peer: r"):
            compare_feeds(ours, [wrong], "peer")
    with pytest.raises(AssertionError, match="no feed"):
        compare_feeds(ours, [], "peer")


def test_a_goal_is_reached_at_its_limit_and_not_past_it() -> None:
    at_most = Goal("cost", "<= 0.5", most=0.5)
    at_least = Goal("share", ">= 0.7", least=0.7)
    assert [Row(at_most, "", figure).is_reached for figure in (0.5, 0.51)] == [True, False]
    assert [Row(at_least, "", figure).is_reached for figure in (0.7, 0.69)] == [True, False]


def test_a_budget_for_some_models_of_many_lets_models_go_and_loads_them_again(
    models: ModelsReport,
) -> None:
    many = models.many
    assert (many.models, many.requests, many.visits, many.waits.constant.count) == (
        60,
        300,
        75,
        75,
    )
    assert many.loads <= many.misses
    assert many.evictions > many.held  # more were loaded at the start than the budget is for
    assert many.waits.first_loaded.count + many.waits.first_unloaded.count == many.visited


def test_one_file_under_many_names_is_loaded_once(models: ModelsReport) -> None:
    assert (models.shared.models, models.shared.sessions, models.shared.constant.count) == (
        60,
        1,
        75,
    )
    assert models.shared.footprint.loaded_mib < models.many.footprint.loaded_mib


def test_feeds_that_are_lost_or_doubled_are_no_figure() -> None:
    check_keys([b"a", b"b"], 2)
    for keys in ([b"a"], [b"a", b"a"], [b"a", b"b", b"b"]):
        with pytest.raises(AssertionError):
            check_keys(keys, 2)


@pytest.mark.parametrize("shape", INPUTS, ids=lambda shape: shape.name)
def test_events_of_every_input_are_sound_and_make_whole_requests(
    shape: Input, tmp_path: Path
) -> None:
    (tmp_path / "surfaces.toml").write_text(SURFACES)
    decoder = Decoder(load_surfaces(tmp_path / "surfaces.toml"))
    load = shape.load(seed=1)
    messages = load.interleaved(20, requested_at=1, open_at_once=7, batch=shape.batch)
    events = [decoder.decode(value, key, load.headers) for key, value in messages]
    assert not any(event.refused for event in events)

    candidates: Counter[str] = Counter()
    for event in events:
        candidates[event.request_id] += len(event.item_ids)
    assert candidates == {f"request-{n:06d}": shape.candidates for n in range(20)}
    assert len(events) == 20 * shape.candidates / shape.batch


def test_the_same_seed_gives_the_same_events() -> None:
    def events(seed: int) -> list[Message]:
        return list(Load(seed, candidates=3).interleaved(30, requested_at=1))

    assert events(1) == events(1) != events(2)


class EvenlyBusy:
    """A process that uses half a core, always."""

    peak = 2**20

    def cpu_between(self, start: float, end: float) -> float:
        return (end - start) / 2


def test_feeds_of_the_first_transaction_are_not_counted_since_their_work_lies_before_it() -> None:
    # Transactions of 100 feeds, one a second, for 2 candidates a feed: 5 ms of CPU a feed.
    moments = [1000.0 + second + place / 1e6 for second in range(30) for place in range(100)]
    cost = cost_of(EvenlyBusy(), moments, candidates=2)
    assert cost.microseconds == pytest.approx(2500, rel=0.01)
    assert cost.candidates_a_second == pytest.approx(200, rel=0.01)
    assert cost.peak_resident_mib == 1.0


def test_feeds_without_a_pause_between_them_are_parted_all_the_same() -> None:
    cost = cost_of(EvenlyBusy(), [1000.0 + place / 1000 for place in range(1000)], candidates=1)
    assert cost.segments == pytest.approx((500, 500, 500), rel=0.01)


def test_percentiles_are_by_the_nearest_rank() -> None:
    latency = Times.of(number * MS for number in range(100, 0, -1))
    assert (latency.count, latency.p50_ms, latency.p99_ms, latency.max_ms) == (
        100,
        50.0,
        99.0,
        100.0,
    )


def test_tenants_are_visited_by_zipfs_law_beside_the_one_in_constant_use() -> None:
    names = tuple(f"s{number}" for number in range(100))
    tenants = Tenants(Environment("", "", Path()), names, (1,) * 100, held=1, budget_mib=1)
    visits = tenants.visits(seed=5, requests=20_000, lead_in=50)
    assert visits == tenants.visits(5, 20_000, 50) != tenants.visits(6, 20_000, 50)
    assert set(visits[:50]) == set(visits[51::2]) == {"s0"}
    counts = [count for _, count in Counter(visits[50::2]).most_common()]
    assert len(counts) == 99
    assert counts[0] == pytest.approx(10 * counts[9], rel=0.3)


def test_latencies_are_told_apart_by_what_a_request_met() -> None:
    visits = ["a", "b", "a", "c", "b", "c"]
    delivered = [Delivered(request, 10 * MS * request, None) for request in range(6)]  # type: ignore[arg-type]
    waits = waits_of(delivered, visits, constant="a", loaded={"b"})
    assert (waits.constant.count, waits.constant.max_ms) == (2, 20.0)
    assert waits.first_loaded == Times.of([10 * MS])
    assert waits.first_unloaded == Times.of([30 * MS])
    assert waits.later == Times.of([40 * MS, 50 * MS])
