"""One run: which parts are measured, and on which scale."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.curves import CurveLimits, CurvesReport, measure_curves
from tests.bench.many import measure_models
from tests.bench.many_report import ModelsLimits, ModelsReport
from tests.bench.measure import SECTIONS, measure_worker
from tests.bench.metrics_cost import MetricsLimits, MetricsReport, measure_metrics
from tests.bench.outcome_report import OutcomeLimits, OutcomeReport
from tests.bench.outcomes import measure_outcomes
from tests.bench.peers.environment import FAUST, peers_python
from tests.bench.peers_report import PeersLimits, PeersReport, measure_peers
from tests.bench.programs import PLAIN_COUNT, faust
from tests.bench.stages import StageLimits, StageReport, measure_stages
from tests.bench.worker_report import WorkerLimits, WorkerReport
from tests.rig.environment import Environment
from tests.rig.measured import measured_environment
from tests.rig.servers import started_servers, user_cache

PARTS = ("worker", "stages", "curves", "models", "outcomes", "metrics")

Report = (
    WorkerReport
    | PeersReport
    | StageReport
    | CurvesReport
    | ModelsReport
    | OutcomeReport
    | MetricsReport
)


@dataclass(frozen=True)
class Scale:
    """How much each part measures."""

    worker: WorkerLimits = field(default_factory=WorkerLimits)
    peers: PeersLimits = field(default_factory=PeersLimits)
    stages: StageLimits = field(default_factory=StageLimits)
    curves: CurveLimits = field(default_factory=CurveLimits)
    models: ModelsLimits = field(default_factory=ModelsLimits)
    outcomes: OutcomeLimits = field(default_factory=OutcomeLimits)
    metrics: MetricsLimits = field(default_factory=MetricsLimits)


FULL = Scale()
QUICK = Scale(
    worker=WorkerLimits(
        backlog_candidates=100_000, turns=1, stream_seconds=8.0, open_requests=1000
    ),
    peers=PeersLimits(candidates=100_000),
    stages=StageLimits(candidates=20_000, repeats=2),
    curves=CurveLimits(
        candidates=50_000,
        open_candidates=50_000,
        turns=1,
        seconds=6.0,
        open_requests=(100, 2000),
        partitions=(1, 16),
        surfaces=(1, 100),
        objectives=(1, 2, 4),
        batches=(1, 50),
        rates=(100,),
        lingers_ms=(0, 20),
    ),
    models=ModelsLimits(models=60, held=12, requests=600),
    outcomes=OutcomeLimits(
        backlog_feeds=400,
        slow_feeds=40,
        turns=1,
        open_feeds=4000,
        restart_feeds=1000,
        worker_requests=1000,
        worker_pairs=1,
    ),
    metrics=MetricsLimits(pairs=6),
)


@dataclass
class Run:
    """Measures parts from one seed. `say` gets a line for each step.

    What was not measured is None.
    """

    scale: Scale
    seed: int
    with_frameworks: bool
    say: Callable[[str], None]
    worker: WorkerReport | None = None
    peers: PeersReport | None = None
    stages: StageReport | None = None
    curves: CurvesReport | None = None
    models: ModelsReport | None = None
    outcomes: OutcomeReport | None = None
    metrics: MetricsReport | None = None

    def measure(self, parts: Collection[str]) -> None:
        """Measure these parts, or sections of the part `worker`."""
        if "stages" in parts:
            with TemporaryDirectory(prefix="trimtab-stages-") as name:
                folder = Path(name)
                measured_environment(kafka="", redis="", folder=folder)
                limits = replace(self.scale.stages, seed=self.seed)
                self.stages = measure_stages(folder, limits, self.say)
        if set(parts) == {"stages"}:
            return

        with started_servers() as servers:
            env = measured_environment(servers.kafka, servers.redis, servers.folder)
            sections = set(SECTIONS) if "worker" in parts else set(SECTIONS).intersection(parts)
            if sections:
                self._measure_worker(env, sections)
            if "curves" in parts:
                curve_limits = replace(self.scale.curves, seed=self.seed)
                self.curves = measure_curves(env, curve_limits, self.say)
            if "models" in parts:
                model_limits = replace(self.scale.models, seed=self.seed)
                self.models = measure_models(env, model_limits, self.say)
            if "outcomes" in parts:
                self._measure_outcomes(env)
            if "metrics" in parts:
                metrics_limits = replace(self.scale.metrics, seed=self.seed)
                self.metrics = measure_metrics(env, metrics_limits, self.say)

    def by_part(self) -> dict[str, Report]:
        """The reports of what was measured."""
        reports: dict[str, Report | None] = {
            "worker": self.worker,
            "peers": self.peers,
            "stages": self.stages,
            "curves": self.curves,
            "models": self.models,
            "outcomes": self.outcomes,
            "metrics": self.metrics,
        }
        return {part: report for part, report in reports.items() if report is not None}

    def _measure_worker(self, env: Environment, sections: Collection[str]) -> None:
        limits = replace(self.scale.worker, seed=self.seed)
        self.worker = measure_worker(env, limits, self.say, sections)
        if self.with_frameworks:
            peers_limits = replace(self.scale.peers, seed=self.seed)
            self.peers = measure_peers(env, peers_limits, user_cache(), self.say)

    def _measure_outcomes(self, env: Environment) -> None:
        slow = []
        if self.with_frameworks:
            slow.append(faust(peers_python(user_cache() / "bench-faust", FAUST)))
        limits = replace(self.scale.outcomes, seed=self.seed)
        self.outcomes = measure_outcomes(
            env, limits, self.say, peers=[PLAIN_COUNT], slow_peers=slow
        )
