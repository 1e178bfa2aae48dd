"""The trial of outcomes: the join is killed and stopped again and again, workers are killed and the
broker is, and every outcome, sum and dead letter is the oracle's.

`make test` does the same with two kills: tests/integration/test_outcomes.py. The run is in
tests/rig/outcome_runs.py.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tests.rig.outcome_runs import Plan, Result, outcomes_environment, run_outcomes
from tests.rig.servers import Servers

_STOPS = (5.0, 13.0)
"""The session timeout is 2 s here, and a transaction may take 10 s."""
_SHOWN = 20


@dataclass(frozen=True)
class OutcomesReport:
    """What was done, what was compared, and everything that is wrong."""

    result: Result

    @property
    def wrong(self) -> dict[str, int]:
        """How much is not the oracle's."""
        return {"outcomes, sums or dead letters that are not the oracle's": len(self._wrong)}

    @property
    def _wrong(self) -> list[str]:
        return self.result.verdict.wrong

    def as_json(self) -> dict[str, Any]:
        """The same figures, for `--json`."""
        return asdict(self.result)

    def lines(self) -> Iterator[str]:
        """The report as a page."""
        result = self.result
        plan = result.plan
        verdict = result.verdict
        acts = ", ".join(f"{act} x{times}" for act, times in Counter(result.acts).items())
        reasons = ", ".join(f"{name} {n:,}" for name, n in verdict.letters_by_reason.items())
        yield (
            f"outcomes {plan.joins} processes of the join, {plan.workers} workers; windows of"
            f" {plan.window_s} and {plan.window_s + 1} s; {plan.protocol}; seed {plan.seed};"
            f" {result.seconds:.0f} s"
        )
        yield f"  done    {acts}"
        yield f"  sent    {result.requests:,} requests, {result.interactions:,} interactions"
        yield (
            f"  equal   {verdict.feeds:,} feed records and feeds, each with one request outcome;"
            f" {verdict.seen:,} seen, {verdict.takes:,} takes"
        )
        yield f"  equal   {verdict.sums:,} sums of a key and a partition, by position and by cluster"
        yield f"  equal   {verdict.letters:,} dead letters: {reasons}"
        yield f"  wrong   {len(verdict.wrong):,}"
        for line in verdict.wrong[:_SHOWN]:
            yield f"    {line}"


def run_outcomes_trial(
    servers: Servers, kills: int, seed: int, protocol: str, say: Callable[[str], None]
) -> OutcomesReport:
    """Run it in an environment of its own."""
    plan = Plan(
        seed=seed,
        joins=3,
        workers=2,
        rate=40.0,
        kills=kills,
        stops=_STOPS,
        worker_kills=3,
        worker_stops=_STOPS[1:],
        broker_kills=1,
        protocol=protocol,
    )
    folder = servers.folder / "outcomes"
    folder.mkdir()
    with outcomes_environment(servers.kafka, servers.redis, folder, plan) as env:
        return OutcomesReport(run_outcomes(env, servers.stack, plan, say))
