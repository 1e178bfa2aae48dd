"""A guard rail stops one arm, whatever else happens to the experiment, and says why."""

import threading
from collections.abc import Iterator

import pytest

from tests.builders import surface
from tests.rig.redis import RedisServer
from workers.outcomes.plan import GuardRail, Plan
from workers.ranking.experiment import Experiment
from workers.ranking.outcome_rules import OutcomeRule, OutcomeRules
from workers.ranking.weights import Weights
from workers.steering.documents import EXPERIMENT, PLAN, WEIGHTS
from workers.steering.editor import Change, ChangedMeanwhile, SteeringEditor
from workers.steering.guard_rail import stop_arm, stopped_arms
from workers.steering.view import PlannedExperiment

HOME = surface("home", outcomes=OutcomeRules(60, None, OutcomeRule("play")))
WHY = "take_rate >= -2%: broken, -14.0 % to -6.0 % (95 %)"
TWO_ARMS = Experiment("s", {"a": 1000, "b": 2000})
RAILS = Plan("s", 0.05, (GuardRail.parse("take_rate >= -2%"),))


@pytest.fixture
def editor(server: RedisServer) -> Iterator[SteeringEditor]:
    with SteeringEditor(server.url, "") as editor:
        yield editor


@pytest.fixture
def running(editor: SteeringEditor) -> SteeringEditor:
    """Arms `a` and `b` have weights and users."""
    for arm, quality in (("a", 0.1), ("b", 0.2)):
        view = editor.read_view(HOME, arm)
        weights = Weights.of({"quality": quality, "engagement": 0.5})
        editor.write(view, [Change(view.document(WEIGHTS, arm), weights)], "me", "")
    write(editor, TWO_ARMS)
    return editor


def write(editor: SteeringEditor, experiment: Experiment, reason: str = "") -> int:
    view = editor.read_view(HOME)
    return editor.write(view, [Change(view.experiment, experiment)], "me", reason)


def shares(editor: SteeringEditor) -> dict[str, int]:
    in_force = editor.read_view(HOME).experiment.in_force
    assert in_force is not None
    return dict(in_force.shares)


def test_the_arm_loses_its_users_and_the_other_goes_on(running: SteeringEditor) -> None:
    revision = stop_arm(running, HOME, salt="s", arm="a", reason=WHY)

    assert shares(running) == {"a": 0, "b": 2000}
    last = running.read_view(HOME).experiment.last
    assert last is not None
    assert (last.revision, last.actor, last.reason) == (revision, "guard-rail", WHY)


def test_to_stop_an_arm_again_changes_nothing(running: SteeringEditor) -> None:
    stop_arm(running, HOME, salt="s", arm="a", reason=WHY)
    before = running.read_view(HOME).revision

    assert stop_arm(running, HOME, salt="s", arm="a", reason=WHY) is None
    assert running.read_view(HOME).revision == before


@pytest.mark.parametrize(("salt", "arm"), [("other", "a"), ("s", "c"), ("s", "control")])
def test_another_experiment_and_an_arm_that_it_has_not_are_left_alone(
    running: SteeringEditor, salt: str, arm: str
) -> None:
    assert stop_arm(running, HOME, salt=salt, arm=arm, reason=WHY) is None
    assert shares(running) == {"a": 1000, "b": 2000}


def test_without_an_experiment_there_is_nothing_to_stop(editor: SteeringEditor) -> None:
    assert stop_arm(editor, HOME, salt="s", arm="a", reason=WHY) is None


def test_a_stop_reads_again_what_was_changed_since_it_read(
    running: SteeringEditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time before it writes, somebody ramps the other arm, then starts a new experiment."""
    changes = iter(
        [Experiment("s", {"a": 1000, "b": 3000}), Experiment("s", {"a": 500, "b": 4000})]
    )
    original = running.write

    def write_late(*arguments: object) -> int:
        change = next(changes, None)
        if change is not None:
            monkeypatch.setattr(running, "write", original)
            write(running, change)
            monkeypatch.setattr(running, "write", write_late)
        return original(*arguments)  # type: ignore[arg-type]  # passed on as they are

    monkeypatch.setattr(running, "write", write_late)
    assert stop_arm(running, HOME, salt="s", arm="a", reason=WHY) is not None
    assert shares(running) == {"a": 0, "b": 4000}


def test_a_stop_does_not_touch_an_experiment_that_was_started_meanwhile(
    running: SteeringEditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = running.write

    def write_late(*arguments: object) -> int:
        monkeypatch.setattr(running, "write", original)
        write(running, Experiment("new", {"a": 1000}))
        return original(*arguments)  # type: ignore[arg-type]  # passed on as they are

    monkeypatch.setattr(running, "write", write_late)
    assert stop_arm(running, HOME, salt="s", arm="a", reason=WHY) is None
    assert shares(running) == {"a": 1000}


def test_two_processes_and_a_person_at_once_stop_the_arm_once(
    server: RedisServer, running: SteeringEditor
) -> None:
    ramps = [Experiment("s", {"a": 1000, "b": 2000 + step}) for step in range(1, 20)]
    revisions = list[int | None]()

    def stop() -> None:
        with SteeringEditor(server.url, "") as editor:
            revisions.append(stop_arm(editor, HOME, salt="s", arm="a", reason=WHY))

    threads = [threading.Thread(target=stop) for _ in range(3)]
    for thread in threads:
        thread.start()
    last_share = 2000
    for ramp in ramps:
        view = running.read_view(HOME)
        experiment = view.experiment.in_force
        assert experiment is not None
        wanted = Experiment("s", {"a": experiment.shares["a"], "b": ramp.shares["b"]})
        try:
            running.write(view, [Change(view.experiment, wanted)], "me", "")
            last_share = wanted.shares["b"]
        except ChangedMeanwhile:
            continue
    for thread in threads:
        thread.join(timeout=30)

    assert sum(revision is not None for revision in revisions) == 1
    assert shares(running) == {"a": 0, "b": last_share}


def test_a_content_that_workers_refuse_is_replaced_since_they_go_on_with_the_one_before(
    server: RedisServer, running: SteeringEditor
) -> None:
    server.client.hset("experiment:home", "b", "lots")
    assert stop_arm(running, HOME, salt="s", arm="a", reason=WHY) is not None
    assert shares(running) == {"a": 0, "b": 2000}


def test_it_is_known_which_arms_a_guard_rail_has_stopped_until_somebody_starts_them(
    running: SteeringEditor,
) -> None:
    write(running, Experiment("s", {"a": 1000, "b": 0}))
    stop_arm(running, HOME, salt="s", arm="a", reason=WHY)
    stopped = stopped_arms(running.read_view(HOME))
    assert {arm: entry.reason for arm, entry in stopped.items()} == {"a": WHY}

    write(running, Experiment("s", {"a": 500, "b": 0}))
    assert stopped_arms(running.read_view(HOME)) == {}
    write(running, Experiment("s", {"a": 0, "b": 0}))
    assert stopped_arms(running.read_view(HOME)) == {}


def test_who_starts_a_stopped_arm_again_has_overruled_its_rails_until_the_next_experiment(
    running: SteeringEditor,
) -> None:
    stop_arm(running, HOME, salt="s", arm="a", reason=WHY)
    write(running, TWO_ARMS, "we want to see more of it")
    assert stop_arm(running, HOME, salt="s", arm="a", reason=WHY) is None
    assert stop_arm(running, HOME, salt="s", arm="b", reason=WHY) is not None

    write(running, Experiment("new", {"a": 1000}))
    assert stop_arm(running, HOME, salt="new", arm="a", reason=WHY) is not None


def test_another_experiment_may_use_the_names_of_stopped_arms(running: SteeringEditor) -> None:
    stop_arm(running, HOME, salt="s", arm="a", reason=WHY)
    write(running, Experiment("new", {"a": 0}))
    assert stopped_arms(running.read_view(HOME)) == {}


# The plan beside the experiment


def write_plan(editor: SteeringEditor, plan: Plan) -> None:
    view = editor.read_view(HOME)
    editor.write(view, [Change(view.document(PLAN), plan)], "me", "")


def test_a_plan_applies_to_the_experiment_with_its_salt_only(running: SteeringEditor) -> None:
    assert running.read_planned(HOME) == PlannedExperiment(TWO_ARMS, None, None)
    write_plan(running, RAILS)
    assert running.read_planned(HOME) == PlannedExperiment(TWO_ARMS, RAILS, None)
    assert running.read_view(HOME).plan_that_applies == RAILS

    other = Experiment("new", {"a": 100})
    write(running, other)
    assert running.read_planned(HOME) == PlannedExperiment(other, None, None)
    assert running.read_view(HOME).plan_that_applies is None


def test_a_plan_that_is_refused_does_not_apply_and_the_reason_is_given(
    server: RedisServer, running: SteeringEditor
) -> None:
    server.client.hset("plan:home", mapping={"salt": "s", "guard:1": "take_rate"})
    planned = running.read_planned(HOME)
    assert planned.plan is None
    assert planned.refused is not None
    assert planned.refused.startswith("guard: got 'take_rate'")


def test_an_experiment_that_was_deleted_by_hand_is_still_in_force_with_its_plan(
    server: RedisServer, running: SteeringEditor
) -> None:
    write_plan(running, RAILS)
    server.client.delete(running.keys.document("home", EXPERIMENT))
    assert running.read_planned(HOME) == PlannedExperiment(TWO_ARMS, RAILS, None)
    assert stop_arm(running, HOME, salt="s", arm="b", reason=WHY) is not None
    assert shares(running) == {"a": 1000, "b": 0}
