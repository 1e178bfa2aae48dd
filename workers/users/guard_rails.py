"""Guard rails: arms that break one lose their users.

Every two seconds the process that has partition 0 of `request-outcomes` takes in the new sums over
feeds, and judges the rails of each surface that has a plan. Everything here blocks, so it runs in a
thread. If Redis or Kafka is away, or a plan is refused, that is logged once, and the next turn tries
again. Nothing else of the stage stops, and other surfaces are judged.

A rail is judged over all phases of the current experiment. Whoever starts a stopped arm again under
the same salt has overruled its rails (`steering/guard_rail.py`).
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager

from workers.errors import Failure
from workers.log import log
from workers.outcomes.cluster_counts import PhaseCounts, count_by_phase
from workers.outcomes.rails import RailStanding, RailState, judge_rails
from workers.ranking.surface import Surface
from workers.steering.documents import PLAN
from workers.steering.editor import RedisUnreachable, SteeringEditor
from workers.steering.guard_rail import stop_arm
from workers.steering.view import SurfaceView
from workers.streaming.clients import Cluster, KafkaException
from workers.streaming.feed_sums import FeedSumsReader
from workers.users.stage import UsersStage

EVERY_SECONDS = 2.0
_PARTITION = 0

OpenEditor = Callable[[], AbstractContextManager[SteeringEditor]]


class GuardRails:
    """The rails of all surfaces. `surfaces` has those that count outcomes.

    - `stops`: by surface and arm, how often a rail has stopped it since the start.
    - `judged_at`: when all of them were last judged, or else since when they are to be, in monotonic
      seconds. None: another process judges them.
    """

    def __init__(
        self,
        cluster: Cluster,
        feed_outcomes: str,
        surfaces: Mapping[str, Surface],
        open_editor: OpenEditor,
    ) -> None:
        self._cluster = cluster
        self._feed_outcomes = feed_outcomes
        self._surfaces = surfaces
        self._open_editor = open_editor
        self._reader: FeedSumsReader | None = None
        self._failure: str | None = None
        self.stops: dict[tuple[str, str], int] = {}
        self.judged_at: float | None = None

    @property
    def wait_s(self) -> float | None:
        """Seconds since all rails were judged. None: another process judges them. For any thread."""
        judged_at = self.judged_at
        return None if judged_at is None else time.monotonic() - judged_at

    async def run(self, stage: UsersStage) -> None:
        """Judge the rails as long as the stage runs and has the partition."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            if stage.is_recovering or _PARTITION not in stage.books:
                self.close()
                self.judged_at = None
                continue
            await asyncio.to_thread(self.turn)

    def turn(self) -> None:
        """Take in what is new, and judge. A failure is logged once, and the next turn goes on."""
        if self.judged_at is None:
            self.judged_at = time.monotonic()

        try:
            failure = self._judge_all()
        except RedisUnreachable as error:
            failure = str(error)
        except (Failure, KafkaException) as error:
            failure = str(error)
            self.close()
        if failure is not None and failure != self._failure:
            log.warning("guard_rails_wait", error=failure, then="they are judged again each 2 s")
        if failure is None and self._failure is not None:
            log.info("guard_rails_go_on")
        if failure is None:
            self.judged_at = time.monotonic()
        self._failure = failure

    def close(self) -> None:
        """Give the connection back. The next turn reads all sums again."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _judge_all(self) -> str | None:
        """Judge every surface. Returns why some could not be judged, None if all were."""
        if self._reader is None:
            self._reader = FeedSumsReader(self._cluster, self._feed_outcomes)
        self._reader.read_to_end()

        not_judged = list[str]()
        with self._open_editor() as editor:
            for surface in self._planned(editor):
                try:
                    self._judge(editor, surface, self._reader)
                except Failure as error:
                    not_judged.append(f"{surface.name}: {error}")
        return "; ".join(not_judged) or None

    def _judge(self, editor: SteeringEditor, surface: Surface, reader: FeedSumsReader) -> None:
        """Stop the arms of a surface that break a rail. Raises Failure if its plan is refused."""
        planned = editor.read_planned(surface)
        if planned.experiment is None or not planned.experiment.running:
            return
        if planned.refused is not None:
            raise Failure(f"no guard rail holds, because the plan is refused: {planned.refused}")
        if planned.plan is None or not planned.plan.rails:
            return

        view = editor.read_view(surface, workers=[])
        for state in _broken(view, reader):
            self._stop(editor, view, state)

    def _planned(self, editor: SteeringEditor) -> list[Surface]:
        """The surfaces that have sums and a plan."""
        surfaces: list[Surface] = []
        assert self._reader is not None
        for name in sorted(self._reader.surfaces):
            if name in self._surfaces:
                surfaces.append(self._surfaces[name])
        if not surfaces:
            return []
        reads = [("HGETALL", editor.keys.document(each.name, PLAN)) for each in surfaces]
        plans = editor.execute(*reads)
        return [surface for surface, plan in zip(surfaces, plans, strict=True) if plan]

    def _stop(self, editor: SteeringEditor, view: SurfaceView, state: RailState) -> None:
        experiment = view.experiment.in_force
        assert experiment is not None
        revision = stop_arm(
            editor, view.surface, salt=experiment.salt, arm=state.arm, reason=state.text
        )
        if revision is not None:
            key = (view.surface.name, state.arm)
            self.stops[key] = self.stops.get(key, 0) + 1
            log.warning(
                "guard_rail_broken",
                surface=view.surface.name,
                arm=state.arm,
                why=state.text,
                then="its users are in control again",
                revision=revision,
            )


def _broken(view: SurfaceView, reader: FeedSumsReader) -> Iterator[RailState]:
    """For each arm with users, the first rail that it breaks."""
    plan = view.plan_that_applies
    experiment = view.experiment.in_force
    if plan is None or not plan.rails or experiment is None or not experiment.running:
        return

    counts = _counts(view, experiment.salt, reader)
    for arm in experiment.running:
        for state in judge_rails(plan, counts, arm):
            if state.standing is RailStanding.BROKEN:
                yield state
                break


def _counts(view: SurfaceView, salt: str, reader: FeedSumsReader) -> PhaseCounts:
    """The counts of the phases of an experiment."""
    phases = view.phases.of_salt(salt)
    of_experiment = []
    for key, counts in reader.counts_by_arm_hour(view.surface.name).items():
        if key.experiment in phases:
            of_experiment.append((key, counts))
    return count_by_phase(of_experiment)
