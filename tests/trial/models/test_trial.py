"""The trial of models judges what it claims: a small one on real servers, of which only the counts
are asserted.
"""

from collections import Counter
from pathlib import Path

import pytest

from tests.rig.environment import OBJECTIVES
from tests.rig.machine import Wakeup
from tests.rig.measured import measured_environment
from tests.rig.oracle import Perceptron
from tests.rig.times import MS, Span
from tests.rig.traffic import Load
from tests.scoring.building import WIDE, add_model, mlp
from tests.trial.models.feeds import FeedScored
from tests.trial.models.judge import count_misscored, periods_of, unrefused
from tests.trial.models.owner import Made
from tests.trial.models.plan import ADDED, REASONS, Kind, Swap, plan
from tests.trial.models.report import Limits, Report, Silence
from tests.trial.models.swaps import Silences, follow, swaps_seen
from tests.trial.models.trial import run_models_trial
from tests.trial.models.versions import build_version
from workers.scoring.refusal import ModelRefused
from workers.scoring.verify import verify

SMALL = Limits(
    seed=3,
    copies=4,
    trips=1,
    workers=2,
    rate=50,
    candidates=10,
    events=2,
    calm_seconds=1,
    warm_up_seconds=1,
)


@pytest.fixture(scope="module")
def report(kafka: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Report:
    env = measured_environment(kafka, redis_url, tmp_path_factory.mktemp("trial-of-models"))
    return run_models_trial(env, SMALL, lambda _: None)


def test_nothing_is_lost_doubled_or_scored_by_what_is_not_in_force(report: Report) -> None:
    assert not any(report.wrong.values()), "\n".join(report.lines())
    assert report.requests == report.feeds > 0


def test_everything_that_was_planned_was_tried(report: Report) -> None:
    kinds = Counter(one.kind for one in report.swaps)
    assert set(kinds) == set(Kind)
    assert kinds[Kind.COPIED] == 4
    assert all(one.scored for one in report.swaps if not one.is_bad)
    assert not any(one.scored for one in report.swaps if one.is_bad)


def test_a_page_has_every_line(report: Report) -> None:
    page = "\n".join(report.lines())
    assert report.machine.cpu in page
    assert "seed 3" in page
    assert page.count("goal") == 3
    for named in (
        *Kind,
        "12 in ",
        "folders copied",
        "both at work",
        "calm before",
        "around bad models",
    ):
        assert named in page
    for count in report.wrong:
        assert f"  0 {count}" in page


# The plan and the versions


def test_the_same_seed_plans_the_same_swaps_and_every_pin_is_one() -> None:
    assert plan(9, 2, 1) == plan(9, 2, 1) != plan(9, 2, 2)
    for seed in range(50):
        swaps = plan(9, 2, seed)
        assert Counter(swap.kind for swap in swaps) == dict.fromkeys(Kind, 1) | {
            Kind.COPIED: 9,
            Kind.ACTIVATED: 2,
            Kind.ROLLED_BACK: 2,
            Kind.LATEST: 2,
        }
        for objective in OBJECTIVES:
            scoring = [
                s.version for s in swaps if s.objective == objective and s.kind not in REASONS
            ]
            assert all(
                before != after for before, after in zip([1, *scoring], scoring, strict=False)
            )


@pytest.mark.parametrize("kind", REASONS)
def test_a_bad_version_is_refused_for_what_is_wrong_with_it(kind: Kind, tmp_path: Path) -> None:
    with pytest.raises(ModelRefused) as caught:
        verify(build_version(tmp_path, Swap(kind, "quality", 2, 0, 0)), [WIDE])
    assert caught.value.reason == REASONS[kind]


# The judge, on what never happens in a good run

SWAP = Made(Swap(Kind.COPIED, "quality", 2, 0, 0), 10 * MS, 11 * MS, 30 * MS, 2)
BAD = Made(Swap(Kind.CUT, "quality", 3, 0, 0), 40 * MS, 41 * MS, 50 * MS, 3)
ADD = Made(Swap(Kind.ADDED, ADDED, 1, 0, 0), 60 * MS, 61 * MS, 70 * MS, 1)


def feed(request: int, ranked_at: int, quality: int, partition: int = 0, **more: int) -> FeedScored:
    models = {"quality": quality, "engagement": 1} | more
    return FeedScored(request, partition, ranked_at, ranked_at, models, {}, whole=True)


def out_of_turn(*feeds: FeedScored) -> int:
    return follow({0: feeds}, [SWAP, BAD, ADD]).out_of_turn


def test_a_feed_by_a_version_that_is_not_there_yet_is_out_of_turn() -> None:
    assert out_of_turn(feed(0, 5, 1), feed(1, 12, 2), feed(2, 75, 2, freshness=1)) == 0
    assert out_of_turn(feed(0, 5, 2)) == 1
    assert out_of_turn(feed(0, 50, 2, freshness=1)) == 1


def test_a_feed_by_a_version_that_no_worker_should_use_any_more_is_out_of_turn() -> None:
    assert out_of_turn(feed(0, 29, 1)) == 0
    assert out_of_turn(feed(0, 31, 1)) == 1
    assert out_of_turn(feed(0, 75, 2)) == 1


def test_a_worker_that_goes_back_and_forth_is_out_of_turn() -> None:
    assert out_of_turn(feed(0, 12, 2), feed(1, 14, 1), feed(2, 16, 2)) == 1


def test_a_feed_by_a_bad_version_is_out_of_turn() -> None:
    assert out_of_turn(feed(0, 45, 3)) == 1


def test_an_objective_that_is_added_begins_with_no_version() -> None:
    assert [period.version for period in periods_of(ADDED, [SWAP, ADD])] == [0, 1]
    assert [period.version for period in periods_of("quality", [SWAP, BAD, ADD])] == [1, 2]


def test_a_swap_takes_until_the_last_partition_has_turned_and_both_are_at_work_meanwhile() -> None:
    feeds = {0: [feed(0, 5, 1), feed(1, 15, 2)], 1: [feed(2, 20, 1, 1), feed(3, 25, 2, 1)]}
    silences = Silences.of(feeds, [0] * 4, [Wakeup(16 * MS, 3.0)])
    (seen,) = swaps_seen([SWAP], follow(feeds, [SWAP]), silences)
    assert (seen.scored, seen.old, seen.both) == ((5.0, 15.0), (0.0, 10.0), 6.0)
    assert seen.silence == Silence(gap=11.0, wait=11.0, paused=3.0)


def test_a_worker_without_requests_is_not_waited_for() -> None:
    feeds = {0: [feed(0, 5, 1), feed(1, 505, 1)]}
    silence = Silences.of(feeds, [0, 500 * MS], []).within(Span(0, 600 * MS))
    assert (silence.gap, silence.wait) == (501.0, 6.0)


def test_a_silence_that_the_machine_or_the_rest_of_the_run_explains_is_not_the_swaps() -> None:
    assert Silence(gap=190, wait=350, paused=20).is_explained_by_a_swap(elsewhere=300)
    assert not Silence(gap=190, wait=350, paused=20).is_explained_by_a_swap(elsewhere=360)
    assert not Silence(gap=190, wait=350, paused=160).is_explained_by_a_swap(elsewhere=100)
    assert not Silence(gap=190, wait=199, paused=0).is_explained_by_a_swap(elsewhere=0)


def test_a_score_that_is_not_the_models_is_found(tmp_path: Path) -> None:
    folder = add_model(tmp_path, mlp(seed=1))
    load = Load(seed=1, candidates=2)
    model = Perceptron(folder / "model.onnx")

    def scored(shift: float) -> FeedScored:
        rows = [load.rows()[load.row(7, place)] for place in range(2)]
        return feed(7, 5, 1)._replace(
            models={"quality": 1}, scores={"quality": [model.score(r) + shift for r in rows]}
        )

    assert count_misscored([scored(0.0)], load, lambda objective, version: model) == 0
    assert count_misscored([scored(0.0), scored(1e-4)], load, lambda objective, version: model) == 1


def test_a_bad_version_must_be_refused_by_every_worker_for_its_own_reason() -> None:
    assert unrefused([SWAP, BAD], {("quality", 3): ["hash", "hash"]}, workers=2) == 0
    assert unrefused([BAD], {("quality", 3): ["hash", "shape"]}, workers=2) == 1
    assert unrefused([BAD], {("quality", 3): ["hash"]}, workers=2) == 1
    assert unrefused([BAD], {}, workers=2) == 2
