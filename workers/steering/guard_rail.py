"""What guard rails do to an experiment: an arm that breaks one loses its users.

Rules:
- Only the share of that arm becomes 0. The other arms go on as they are at that moment.
- The stop is a compare-and-set like every change. If somebody changes the experiment meanwhile, it
  is read again and decided again.
- An arm that has no users, or an experiment with another salt, is left alone. So to stop an arm
  twice changes nothing.
- Whoever gives a stopped arm users again has overruled its rails, until the next experiment. They do
  not stop it a second time.
- The stop is judged by the experiment that workers apply. If Redis holds a content that they
  refuse, that is replaced.
"""

from collections.abc import Mapping
from typing import Final

from workers.ranking.experiment import SALT, Experiment, ExperimentRefused
from workers.ranking.surface import Surface
from workers.steering.documents import EXPERIMENT
from workers.steering.editor import Change, ChangedMeanwhile, RedisUnreachable, SteeringEditor
from workers.steering.history import HistoryEntry
from workers.steering.view import SurfaceView

GUARD_RAIL_ACTOR: Final = "guard-rail"
"""The actor of these changes in the history."""

_MAX_TRIES = 10


def stop_arm(
    editor: SteeringEditor, surface: Surface, *, salt: str, arm: str, reason: str
) -> int | None:
    """Put the users of one arm back into `control`. Returns the surface's new revision.

    | the experiment in force                   | what happens               |
    |-------------------------------------------|----------------------------|
    | there is none, or it has another salt     | nothing, None              |
    | the arm is not in it, or has no users     | nothing, None              |
    | the arm was stopped and started again     | nothing, None              |
    | changed while it was written, ten times   | raises RedisUnreachable    |
    | otherwise                                 | the share is 0, a revision |

    `reason` goes into the history: give the numbers. Raises RedisUnreachable.
    """
    for _ in range(_MAX_TRIES):
        view = editor.read_view(surface, workers=[])
        experiment = view.experiment.in_force
        if experiment is None or experiment.salt != salt or not experiment.shares.get(arm):
            return None
        if arm in _changes_by_rails(view, salt):
            return None

        stopped = Experiment(salt, {**experiment.shares, arm: 0})
        change = Change(view.experiment, stopped)
        try:
            return editor.write(view, [change], GUARD_RAIL_ACTOR, reason)
        except ChangedMeanwhile:
            continue
    raise RedisUnreachable(
        f"{EXPERIMENT.name}:{surface.name}: changed {_MAX_TRIES} times while {arm!r} was stopped:"
        " try again"
    )


def stopped_arms(view: SurfaceView) -> dict[str, HistoryEntry]:
    """The arms of the current experiment that a guard rail has stopped and nobody has started
    again, with the change that stopped them.
    """
    experiment = view.experiment.in_force
    if experiment is None:
        return {}

    stopped: dict[str, HistoryEntry] = {}
    for arm, entry in _changes_by_rails(view, experiment.salt).items():
        if not experiment.shares.get(arm) and not _has_users_after(view, entry, arm):
            stopped[arm] = entry
    return stopped


def _changes_by_rails(view: SurfaceView, salt: str) -> dict[str, HistoryEntry]:
    """The arms that guard rails have ever stopped in the experiment with this salt."""
    changes: dict[str, HistoryEntry] = {}
    for entry in view.experiment.entries:
        if entry.actor == GUARD_RAIL_ACTOR and entry.after.get(SALT) == salt:
            before = _shares(entry.before)
            for arm, share in _shares(entry.after).items():
                if share == 0 and before.get(arm, 0) > 0:
                    changes[arm] = entry
    return changes


def _has_users_after(view: SurfaceView, stop: HistoryEntry, arm: str) -> bool:
    for entry in view.experiment.entries:
        is_same = entry.after.get(SALT) == stop.after.get(SALT)
        if entry.revision > stop.revision and is_same and _shares(entry.after).get(arm, 0) > 0:
            return True
    return False


def _shares(fields: Mapping[str, str]) -> Mapping[str, int]:
    try:
        return Experiment.read(fields).shares
    except ExperimentRefused:
        return {}
