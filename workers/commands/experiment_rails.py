"""Where the arms of an experiment are, compared with the guard rails of its plan.

The plan is in Redis, the evidence in Kafka. What cannot be read is not guessed: an arm whose rails
nobody could judge is not clear of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from workers.commands.options import BrokersAt
from workers.commands.outcomes.report import steered_of
from workers.errors import Failure
from workers.outcomes.rails import RailStanding, RailState
from workers.outcomes.report import ReportRefused, make_report
from workers.settings import SETTINGS
from workers.steering.view import SurfaceView
from workers.streaming.evidence import EvidenceTopics, read_evidence


@dataclass(frozen=True)
class JudgedRails:
    """The state of each rail, by arm.

    - `missing` says why nothing could be judged, None if it could.
    - `distrusted` says, for an arm, why its numbers must not be believed.
    """

    by_arm: Mapping[str, tuple[RailState, ...]] = field(default_factory=dict)
    missing: str | None = None
    distrusted: Mapping[str, str] = field(default_factory=dict)

    def obstacle(self, arm: str) -> str | None:
        """Why the arm does not clear every rail. None if it does.

        | case                                    | the reason                  |
        |-----------------------------------------|-----------------------------|
        | nothing could be judged                 | what is missing             |
        | the arms' numbers must not be believed  | the sentence of the verdict |
        | a rail is broken, or is not judged yet  | the state of these rails    |
        | no feed of the arm is counted           | so                          |
        """
        if self.missing is not None:
            return f"where it stands is not known: {self.missing}"
        if arm in self.distrusted:
            return self.distrusted[arm]
        if not self.by_arm.get(arm):
            return "no feed of it is counted yet"

        not_clear = list[str]()
        for state in self.by_arm[arm]:
            if state.standing is not RailStanding.CLEAR:
                not_clear.append(state.text)
        return "; ".join(not_clear) or None


def judge_rails_of(
    view: SurfaceView, brokers: BrokersAt, topics: EvidenceTopics, *, wait_seconds: float
) -> JudgedRails | None:
    """Read the evidence and judge the rails. None if the experiment has none.

    `wait_seconds`: how long the users stage may take to count what the join has published. Raises
    nothing if Kafka cannot be read: that is in the result.
    """
    plan = view.plan_that_applies
    if plan is None or not plan.rails:
        return None
    if not brokers.servers:
        return JudgedRails(missing=f"{SETTINGS['kafka'].flag} is not set")

    try:
        evidence = read_evidence(
            brokers.cluster(), topics, view.surface.name, wait_seconds=wait_seconds
        )
    except Failure as failure:
        return JudgedRails(missing=f"the evidence cannot be read: {failure}")

    try:
        report = make_report(evidence.counted, steered_of(view))
    except ReportRefused:
        return JudgedRails(missing="no feed of control is counted yet")

    by_arm: dict[str, tuple[RailState, ...]] = {}
    distrusted: dict[str, str] = {}
    for arm in report.arms:
        by_arm[arm.counts.arm] = arm.rails
        if arm.verdict is not None and arm.verdict.is_withheld and arm.sentence is not None:
            distrusted[arm.counts.arm] = arm.sentence
    return JudgedRails(by_arm, None, distrusted)
