"""The kept results: `docs/costs/results.json`, the tables of docs/costs.md and its pictures.

All of it is written by one run, `make bench-keep`. The tables are made from results.json alone, and a
test compares them. `make bench-check` compares a new run with it.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench.goals import Row
from tests.bench.pictures import draw
from tests.bench.run import Run
from tests.bench.stages import PROTOBUF, STAGES

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "costs.md"
PICTURES = DOCS / "costs"
RESULTS = PICTURES / "results.json"
TOLERANCE = 0.15
"""How much worse a figure may be than the kept one. Ratios of one machine vary by about a tenth."""
_PART = re.compile(r"(<!-- table: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

Document = Mapping[str, Any]


def document_of(run: Run) -> dict[str, Any]:
    """The results as they are kept. The run has measured worker, peers, stages and curves."""
    worker = run.worker
    peers = run.peers
    stages = run.stages
    curves = run.curves
    assert worker is not None
    assert peers is not None
    assert stages is not None
    assert curves is not None

    backlogs = []
    for cost in worker.backlogs:
        backlogs.append(
            {
                "name": cost.name,
                "delivery": cost.delivery,
                "microseconds": cost.microseconds,
                "turns": [turn.microseconds for turn in cost.turns],
                "ratio": cost.ratio,
                "candidates_a_second": cost.candidates_a_second,
                "peak_resident_mib": max(turn.peak_resident_mib for turn in cost.turns),
            }
        )

    beside = []
    for cost in peers.costs:
        beside.append(
            {
                "name": cost.name,
                "delivery": cost.delivery,
                "microseconds": cost.microseconds,
                "ratio": cost.ratio,
                "candidates_a_second": cost.candidates_a_second,
                "peak_resident_mib": cost.turns[0].peak_resident_mib,
                "lacks": cost.lacks,
            }
        )

    streams = []
    for stream in worker.streams:
        streams.append(
            {
                "name": stream.name,
                "p50_ms": stream.p50_ms,
                "p99_ms": stream.p99_ms,
                "microseconds": stream.microseconds,
            }
        )

    rows = [*worker.rows(), *curves.rows()]
    return {
        "machine": asdict(worker.machine),
        "seed": worker.limits.seed,
        "load": list(worker.load),
        "backlog_candidates": worker.limits.backlog_candidates,
        "turns": worker.limits.turns,
        "goals": [row.as_json() for row in rows],
        "backlogs": backlogs,
        "peers": beside,
        "streams": streams,
        "stages": [{"input": cost.input, **cost.stages, "sum": cost.sum} for cost in stages.costs],
        "memory": None if worker.memory is None else asdict(worker.memory),
        "curves": [asdict(curve) for curve in curves.curves],
    }


def keep(document: Document) -> None:
    """Write results.json, the tables and the pictures."""
    PICTURES.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), document), encoding="utf-8")
    for curve in document["curves"]:
        draw(curve, PICTURES / f"{curve['name']}.svg")


def with_tables(page: str, document: Document) -> str:
    """The page with its tables made again from the results."""

    def replaced(match: re.Match[str]) -> str:
        # A comment right behind a table would be a row of it.
        return f"{match[1]}\n{_TABLES[match['name']](document)}\n\n{match[3]}"

    return _PART.sub(replaced, page)


def read_kept() -> Document:
    """The results that are kept."""
    document: Document = json.loads(RESULTS.read_text(encoding="utf-8"))
    return document


def worse_than_kept(rows: Sequence[Row], kept: Document) -> list[str]:
    """The figures that are worse than the kept ones by more than the tolerance, as lines."""
    before = {row["workload"]: row for row in kept["goals"] if row["is_compared"]}
    worse = []
    for row in rows:
        old = before.get(row.goal.workload)
        if old is None:
            continue
        change = row.figure / old["figure"]
        if old["is_better_high"]:
            change = 1 / change
        if change > 1 + TOLERANCE:
            worse.append(
                f"{row.goal.workload}: got {row.figure:.2f}, kept {old['figure']:.2f}, "
                f"expected at most {TOLERANCE:.0%} worse"
            )
    return worse


# The tables, in Markdown.


def _table(head: Sequence[str], rows: Iterator[Sequence[str]], numbers: int) -> str:
    """A table whose last columns are `numbers`, which stand on the right."""
    marks = ["---"] * (len(head) - numbers) + ["--:"] * numbers
    lines = [head, marks, *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _machine(document: Document) -> str:
    machine = document["machine"]
    libraries = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    before, after = document["load"]
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Linux "
        f"{machine['kernel']}; {machine['python']}; {libraries}. Backlogs of "
        f"about {document['backlog_candidates']:,} candidates, turns: {document['turns']}; seed "
        f"{document['seed']}. Load of the machine {before:.1f} before and {after:.1f} after."
    )


def _goals(document: Document) -> str:
    def rows() -> Iterator[Sequence[str]]:
        for row in document["goals"]:
            reached = "yes" if row["is_reached"] else "**no**"
            yield row["workload"], row["goal"], row["measured"], f"{row['figure']:.2f}", reached

    return _table(("Workload", "Goal", "Measured", "Judged", "Reached"), rows(), numbers=2)


def _backlogs(document: Document) -> str:
    return _cost_table(document["backlogs"])


def _peers(document: Document) -> str:
    return _cost_table(document["peers"])


def _cost_table(costs: Sequence[Document]) -> str:
    def rows() -> Iterator[Sequence[str]]:
        for cost in costs:
            yield (
                cost["name"],
                cost["delivery"],
                f"{cost['microseconds']:.2f}",
                f"{cost['ratio']:.2f}",
                f"{cost['candidates_a_second']:,}",
                f"{cost['peak_resident_mib']:.0f}",
            )

    head = ("", "Delivery", "us a candidate", "Ratio", "Candidates/s", "MiB resident, at most")
    return _table(head, rows(), numbers=4)


def _streams(document: Document) -> str:
    def rows() -> Iterator[Sequence[str]]:
        for stream in document["streams"]:
            cpu = "" if stream["microseconds"] is None else f"{stream['microseconds']:.1f}"
            yield stream["name"], f"{stream['p50_ms']:.1f}", f"{stream['p99_ms']:.1f}", cpu

    return _table(("", "p50, ms", "p99, ms", "us a candidate"), rows(), numbers=3)


def _stages(document: Document) -> str:
    columns = (*STAGES, "sum", PROTOBUF)

    def rows() -> Iterator[Sequence[str]]:
        for cost in document["stages"]:
            yield cost["input"], *(f"{cost[column]:.2f}" for column in columns)

    return _table(("Input", *columns), rows(), numbers=len(columns))


def _curves(document: Document) -> str:
    parts = []
    for curve in document["curves"]:
        points = [f"{point:,}" for point in curve["points"]]
        rows = (
            (series["name"], *(f"{value:.2f}" for value in series["values"]))
            for series in curve["series"]
        )
        head = (curve["x"], *points)
        picture = f"![{curve['title']}: {curve['y']}](costs/{curve['name']}.svg)"
        title = f"**{curve['title']}** ({curve['y']})"
        parts.append("\n\n".join((title, picture, _table(head, iter(rows), numbers=len(points)))))
    return "\n\n".join(parts)


_TABLES: Mapping[str, Callable[[Document], str]] = {
    "machine": _machine,
    "goals": _goals,
    "backlogs": _backlogs,
    "peers": _peers,
    "streams": _streams,
    "stages": _stages,
    "curves": _curves,
}
