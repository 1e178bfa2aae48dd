"""A real Prometheus scrapes four workers, a join and the users stage under load. Every query of the
dashboard, every metric of the alerts and every metric of docs/metrics.md, of each stage that it names,
has data, or has none by design.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from tests.deploy.programs import Programs
from tests.docs.documents import ROOT
from tests.rig.environment import Environment
from tests.rig.outcome_runs import Plan, PostStream, outcomes_environment
from tests.rig.process import pause, until
from tests.rig.readers import Readers
from tests.rig.redis import free_port
from workers.metrics.names import METRICS, Kind, MetricName
from workers.metrics.server import listen
from workers.streaming.send import Sender

DEPLOY = ROOT / "deploy"
MODELS = ROOT / "onnx_models"
WORKERS = 4
UNDER_LOAD_SECONDS = 40.0
RATE = 150.0
JOIN_PORT = 1000
USERS_PORT = 2000
EMPTY_BY_DESIGN = {
    # No plan of an experiment has a guard rail that stops something.
    "trimtab_guard_rail_stops_total",
    # Each worker is a process of its own here: none has a parent.
    "trimtab_child_up",
    # There is a limit in a container only.
    "trimtab_process_memory_limit_bytes",
}


class Query(NamedTuple):
    """A query of the dashboard, and the panel that has it."""

    panel: str
    expression: str


class Prometheus:
    """A Prometheus that scrapes every second."""

    def __init__(self, program: Path, folder: Path, targets: list[str]) -> None:
        self._address = f"127.0.0.1:{free_port()}"
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(DEPLOY / "alerts.yaml")],
            "scrape_configs": [{"job_name": "trimtab", "static_configs": [{"targets": targets}]}],
        }
        # JSON is YAML.
        (folder / "prometheus.yml").write_text(json.dumps(config))
        self._log = (folder / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            [
                program,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={self._address}",
            ],
            stdout=self._log,
            stderr=self._log,
        )

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The series that a query returns now. Fails if Prometheus refuses the query."""
        words = urlencode({"query": expression})
        with urlopen(f"http://{self._address}/api/v1/query?{words}", timeout=10) as answer:
            document = json.load(answer)
        assert document["status"] == "success", document
        result: list[dict[str, Any]] = document["data"]["result"]
        return result

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            self.ask("vector(1)")
        except (URLError, OSError):
            return False
        return True

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._log.close()


def dashboard_queries() -> list[Query]:
    """Every query, with the variables of Grafana filled in."""
    dashboard = json.loads((DEPLOY / "grafana" / "trimtab.json").read_text())
    queries = []
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            filled = target["expr"].replace("$__rate_interval", "30s").replace("$surface", ".*")
            queries.append(Query(panel["title"], filled))
    return queries


def ports_from(base: int) -> list[int]:
    """The ports of all processes: four workers, a join and a users stage."""
    return [*range(base, base + WORKERS), base + JOIN_PORT, base + USERS_PORT]


def free_base() -> int:
    """A port such that those of all processes are free."""
    while True:
        base = free_port()
        try:
            with ExitStack() as held:
                for port in ports_from(base):
                    held.enter_context(listen("127.0.0.1", port))
        except (OSError, OverflowError):
            continue
        return base


def series_of(metric: MetricName) -> str:
    """A series that Prometheus has of a metric."""
    return f"{metric.name}_count" if metric.kind is Kind.HISTOGRAM else metric.name


@pytest.fixture
def env(kafka: str, redis_url: str, tmp_path: Path) -> Iterator[Environment]:
    """All topics, and a port for metrics."""
    with outcomes_environment(kafka, redis_url, tmp_path, Plan(window_s=2)) as made:
        made.variables["TRIMTAB_MODELS"] = str(MODELS)
        made.variables["TRIMTAB_METRICS_PORT"] = str(free_base())
        made.create_outcome_topics()
        made.create_user_topics()
        yield made


def test_every_query_has_data_or_has_none_by_design(
    env: Environment, programs: Programs, tmp_path: Path
) -> None:
    base = int(env.variables["TRIMTAB_METRICS_PORT"])
    ports = ports_from(base)
    workers = [env.start_worker() for _ in range(WORKERS - 1)]
    join = env.start_join()
    users = env.start_users()
    prometheus = Prometheus(programs.prometheus, tmp_path, [f"127.0.0.1:{p}" for p in ports])
    readers = Readers(
        env.kafka,
        feeds=env.feeds,
        interactions=env.interactions,
        partitions=env.partitions,
        window_s=2,
        seed=1,
    )
    try:
        join.wait_for("event=restored")
        until(prometheus.answers)
        # Later than the others, so that partitions move while they are scraped.
        workers.append(env.start_worker())
        with readers, PostStream(env.sender(), Plan(rate=RATE)):
            for topic in (env.candidates, env.interactions):
                until(
                    lambda: len(prometheus.ask("up == 1")) == len(ports),
                    lambda: "".join(each.logged()[-2000:] for each in (*workers, join, users)),
                )
                sender = Sender.to(env.cluster, topic)
                sender.send(b"bad", b"bad", [])
                sender.finish()
            pause(UNDER_LOAD_SECONDS)
            env.trimtab("weights", "set", "home", "quality=0.25", "--reason", "a test")
            sender = Sender.to(env.cluster, env.candidates)
            sender.send(b"bad", b"bad", [])
            sender.finish()
            pause(5.0)

            empty = [
                query
                for query in dashboard_queries()
                if not prometheus.ask(query.expression)
                and not any(name in query.expression for name in EMPTY_BY_DESIGN)
            ]
            used = set(re.findall(r"\btrimtab_\w+", (DEPLOY / "alerts.yaml").read_text()))
            absent = {name for name in used if not prometheus.ask(f"count({name})")}
            missing = [
                f"{metric.name} of {stage}"
                for metric in METRICS.values()
                for stage in metric.stages
                if metric.name not in EMPTY_BY_DESIGN
                and not prometheus.ask(f'count({series_of(metric)}{{stage="{stage}"}})')
            ]
            (feeds,) = prometheus.ask("sum(rate(trimtab_feeds_total[30s]))")
            down = prometheus.ask("up == 0")
            failed = prometheus.ask("prometheus_rule_evaluation_failures_total > 0")
    finally:
        prometheus.end()
    assert float(feeds["value"][1]) > RATE / 2
    assert down == []
    assert empty == []
    assert missing == []
    assert absent - EMPTY_BY_DESIGN == set()
    assert failed == []
    for process in (*workers, join, users):
        assert process.is_running(), process.logged()
