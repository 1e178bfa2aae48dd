"""An arm that breaks a guard rail loses its users, and nothing else happens.

Redis is real. The sums over feeds are given.
"""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np
import pytest

from tests.builders import surface
from workers.outcomes.cluster_counts import ClusterCounts
from workers.outcomes.plan import GuardRail, Plan
from workers.outcomes.records import ArmHour
from workers.outcomes.sums import CLUSTERS
from workers.ranking.experiment import Experiment
from workers.ranking.outcome_rules import OutcomeRule, OutcomeRules
from workers.ranking.weights import Weights
from workers.steering.documents import EXPERIMENT as EXPERIMENT_KIND
from workers.steering.documents import PLAN, WEIGHTS
from workers.steering.editor import Change, RedisUnreachable, SteeringEditor
from workers.streaming.clients import Cluster
from workers.users.guard_rails import GuardRails, OpenEditor

HOME = surface("home", outcomes=OutcomeRules(60, None, OutcomeRule("play")))
EXPERIMENT = Experiment("s", {"a": 1000, "b": 2000})


@pytest.fixture
def open_editor(redis_url: str) -> OpenEditor:
    """Opens the Redis of all tests, under a prefix of this test's own."""
    prefix = f"t{uuid.uuid4().hex[:8]}:"
    return lambda: SteeringEditor(redis_url, prefix)


class GivenSums:
    """Sums in one hour: each arm has 256,000 items seen, and takes in `rates` of them."""

    def __init__(self, phase: str, rates: Mapping[str, float]) -> None:
        self.surfaces = {"home", "other"}
        self._counts: dict[ArmHour, ClusterCounts] = {}
        for arm, rate in rates.items():
            seen = np.full(CLUSTERS, 1000.0)
            spread = np.where(np.arange(CLUSTERS) % 2 == 0, 1.02, 0.98)
            counts = ClusterCounts(feeds=seen / 10, items=seen, seen=seen)
            counts.takes = np.round(seen * rate * spread)
            self._counts[ArmHour(490_000, "home", arm, phase)] = counts

    def read_to_end(self) -> None:
        """Everything is there."""

    def counts_by_arm_hour(self, _surface: str) -> Mapping[ArmHour, ClusterCounts]:
        return self._counts

    def close(self) -> None:
        """There is nothing to give back."""


@pytest.fixture
def editor(open_editor: OpenEditor) -> Iterator[SteeringEditor]:
    """Two arms have weights and users."""
    with open_editor() as editor:
        for arm in EXPERIMENT.shares:
            view = editor.read_view(HOME, arm, workers=[])
            weights = Weights.of({"quality": 0.2, "engagement": 0.5})
            editor.write(view, [Change(view.document(WEIGHTS, arm), weights)], "me", "")
        view = editor.read_view(HOME, workers=[])
        editor.write(view, [Change(view.experiment, EXPERIMENT)], "me", "")
        yield editor


def set_plan(editor: SteeringEditor) -> None:
    """The take-rate of an arm may be 2 % below that of control."""
    view = editor.read_view(HOME, workers=[])
    plan = Plan("s", 0.05, (GuardRail.parse("take_rate >= -2%"),))
    editor.write(view, [Change(view.document(PLAN), plan)], "me", "")


def rails_of(
    editor: SteeringEditor, open_editor: OpenEditor, rates: Mapping[str, float]
) -> GuardRails:
    """The rails, with sums of the current phase."""
    (phase,) = editor.read_view(HOME, workers=[]).phases.of_salt("s")
    rails = GuardRails(Cluster("nowhere:1"), "feed-outcomes", {"home": HOME}, open_editor)
    rails._reader = GivenSums(phase, rates)  # type: ignore[assignment]
    return rails


def shares(editor: SteeringEditor) -> Mapping[str, int]:
    in_force = editor.read_view(HOME, workers=[]).experiment.in_force
    assert in_force is not None
    return in_force.shares


RATES = {"control": 0.10, "a": 0.08, "b": 0.10}


def test_the_arm_that_breaks_its_rail_is_stopped_and_the_history_has_the_numbers(
    editor: SteeringEditor, open_editor: OpenEditor
) -> None:
    set_plan(editor)
    rails = rails_of(editor, open_editor, RATES)
    rails.turn()
    rails.turn()

    assert shares(editor) == {"a": 0, "b": 2000}
    last = editor.read_view(HOME, workers=[]).experiment.last
    assert last is not None
    assert last.actor == "guard-rail"
    assert last.reason.startswith("take_rate >= -2%: broken")


def test_without_a_plan_no_arm_is_stopped(editor: SteeringEditor, open_editor: OpenEditor) -> None:
    rails_of(editor, open_editor, RATES).turn()
    assert shares(editor) == EXPERIMENT.shares


def test_redis_that_is_away_is_tried_again(editor: SteeringEditor, open_editor: OpenEditor) -> None:
    set_plan(editor)
    is_away = True

    def open_if_there() -> AbstractContextManager[SteeringEditor]:
        if is_away:
            raise RedisUnreachable("no Redis answers")
        return open_editor()

    rails = rails_of(editor, open_if_there, RATES)
    sums = rails._reader
    assert rails.wait_s is None
    rails.turn()
    waits_since = rails.judged_at
    assert waits_since is not None
    rails.turn()
    assert rails.judged_at == waits_since
    assert shares(editor) == EXPERIMENT.shares

    is_away = False
    rails._reader = sums
    rails.turn()
    assert shares(editor) == {"a": 0, "b": 2000}
    assert rails.judged_at > waits_since


def test_a_plan_that_is_refused_is_logged_and_other_surfaces_are_judged(
    editor: SteeringEditor, open_editor: OpenEditor
) -> None:
    set_plan(editor)
    for name in (
        editor.keys.document("first", PLAN),
        editor.keys.document("first", EXPERIMENT_KIND),
    ):
        editor.execute(("HSET", name, "salt", "t", "a", "10"))
    editor.execute(("HSET", editor.keys.document("first", WEIGHTS, "a"), "quality", "0.5"))

    rails = rails_of(editor, open_editor, RATES)
    assert rails._reader is not None
    rails._reader.surfaces.add("first")
    rails._surfaces = {"first": replace(HOME, name="first"), "home": HOME}
    rails.turn()

    assert "first: no guard rail holds, because the plan is refused: a: not a field" in str(
        rails._failure
    )
    assert shares(editor) == {"a": 0, "b": 2000}
