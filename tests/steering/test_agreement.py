"""What several workers report in their statuses, put together by who agrees with whom."""

from typing import Any

import msgspec
import pytest

from workers.ranking.weights import Weights
from workers.steering.documents import Source
from workers.steering.fleet import LiveWorker, SurfaceAgreement, agreements
from workers.steering.status import (
    ExperimentStatus,
    PinsStatus,
    SurfaceStatus,
    WeightsStatus,
    WorkerStatus,
)
from workers.steering.surface_state import Refused

EVEN, TURNED = (
    Weights.of({"quality": 0.5, "engagement": 0.5}),
    Weights.of({"quality": 0.9, "engagement": 0.1}),
)
NO_EXPERIMENT = ExperimentStatus(None, None, None, None, None, None)


def weights(
    values: Weights | None = EVEN, source: Source = Source.REDIS, refused: str | None = None
) -> WeightsStatus:
    refusal = None if refused is None else Refused(refused, 1, None)
    if values is None:
        return WeightsStatus(None, None, None, None, None, refusal)
    return WeightsStatus(values.version, values.values, source, 1, None, refusal)


def experiment(**arms: float) -> ExperimentStatus:
    return ExperimentStatus("autumn", arms, Source.REDIS, 1, None, None)


def surface(
    own: WeightsStatus, drawn: ExperimentStatus = NO_EXPERIMENT, **arms: WeightsStatus
) -> SurfaceStatus:
    return SurfaceStatus(
        own.version,
        own.values,
        own.source,
        own.applied_at,
        own.push_ms,
        own.refused,
        experiment=drawn,
        arms=arms,
    )


def lives(worker: str, home: SurfaceStatus, **more: Any) -> LiveWorker:
    return LiveWorker(worker, WorkerStatus(worker, 1, 10_000, True, {"home": home}, **more), 5)


def agreed(*workers: LiveWorker) -> SurfaceAgreement:
    (home,) = agreements(workers)
    return home


def test_workers_under_one_version_are_one_group_with_all_their_sources() -> None:
    sources = (Source.REDIS, Source.LAST_GOOD, Source.REDIS)
    home = agreed(*(lives(f"w-{n}", surface(weights(source=s))) for n, s in enumerate(sources)))
    (group,) = home.weights
    assert (group.version, group.values, group.sources) == (
        EVEN.version,
        EVEN.values,
        ["last-good", "redis"],
    )
    assert group.workers == home.workers == ["w-0", "w-1", "w-2"]


def test_workers_under_other_versions_are_groups_of_their_own_the_largest_first() -> None:
    sets = (TURNED, EVEN, EVEN)
    home = agreed(*(lives(f"w-{n}", surface(weights(one))) for n, one in enumerate(sets)))
    assert [(p.version, p.workers) for p in home.weights] == [
        (EVEN.version, ["w-1", "w-2"]),
        (TURNED.version, ["w-0"]),
    ]


def test_a_refusal_names_its_document_its_reason_and_who_refuses() -> None:
    refusing = surface(
        weights(refused="quality: got 'a'"), experiment(b=10), b=weights(refused="x: unknown")
    )
    home = agreed(lives("w-0", refusing), lives("w-1", refusing), lives("w-2", surface(weights())))
    assert [(p.document, p.reason, p.workers) for p in home.refused] == [
        ("weights", "quality: got 'a'", ["w-0", "w-1"]),
        ("weights:b", "x: unknown", ["w-0", "w-1"]),
    ]


def test_refused_pins_of_a_surface_and_of_an_arm_are_listed_with_refused_weights() -> None:
    def refused(reason: str) -> PinsStatus:
        return PinsStatus(None, None, None, None, Refused(reason, 1, None))

    own = surface(weights(refused="quality: got 'a'"))
    refusing = msgspec.structs.replace(
        own, pins=refused("quality: version 9"), arm_pins={"b": refused("x: unknown")}
    )
    home = agreed(lives("w-0", refusing), lives("w-1", surface(weights())))
    assert [(p.document, p.reason, p.workers) for p in home.refused] == [
        ("weights", "quality: got 'a'", ["w-0"]),
        ("models", "quality: version 9", ["w-0"]),
        ("models:b", "x: unknown", ["w-0"]),
    ]


def test_experiments_differ_by_their_percentages_and_a_worker_without_one_is_a_group_too() -> None:
    drawn = (experiment(b=10, c=5), experiment(c=5, b=10), experiment(b=20), NO_EXPERIMENT)
    home = agreed(*(lives(f"w-{n}", surface(weights(), one)) for n, one in enumerate(drawn)))
    assert [(p.arms, p.workers) for p in home.experiment] == [
        ({"b": 10, "c": 5}, ["w-0", "w-1"]),
        ({"b": 20}, ["w-2"]),
        (None, ["w-3"]),
    ]


def test_arms_have_versions_of_their_own_and_one_that_never_was_valid_has_none() -> None:
    home = agreed(
        lives("w-0", surface(weights(), experiment(b=10), b=weights(TURNED))),
        lives("w-1", surface(weights(), experiment(b=10), b=weights(None), a=weights(EVEN))),
    )
    assert list(home.arms) == ["a", "b"]
    assert [(p.version, p.sources, p.workers) for p in home.arms["b"]] == [
        (TURNED.version, ["redis"], ["w-0"]),
        (None, [], ["w-1"]),
    ]


def test_model_versions_are_grouped_by_objective() -> None:
    home = agreed(
        lives("w-0", surface(weights()), models={"home": {"quality": 3, "engagement": 1}}),
        lives("w-1", surface(weights()), models={"home": {"quality": 4, "engagement": 1}}),
    )
    groups = {
        objective: [(p.version, p.workers) for p in found]
        for objective, found in home.models.items()
    }
    assert groups == {"quality": [(3, ["w-0"]), (4, ["w-1"])], "engagement": [(1, ["w-0", "w-1"])]}


@pytest.mark.parametrize("others", [(), (lives("w-0", surface(weights())),)])
def test_a_worker_with_an_unreadable_status_is_in_no_group(others: tuple[LiveWorker, ...]) -> None:
    found = agreements([*others, LiveWorker("strange", None, unreadable="nonsense")])
    assert [one.workers for one in found] == [["w-0"] for _ in others]
