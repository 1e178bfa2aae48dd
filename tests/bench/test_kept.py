"""The kept results, the page made from them, and the comparison of a new run with them."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.bench.curves import Curve, Series, staggered
from tests.bench.goals import Goal, Row
from tests.bench.kept import PAGE, PICTURES, read_kept, with_tables, worse_than_kept
from tests.bench.pictures import draw
from tests.rig.traffic import Load


def test_the_tables_of_the_page_are_those_of_the_kept_results() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_tables(page, read_kept())


def test_every_curve_of_the_kept_results_has_its_picture_and_no_other_is_there() -> None:
    curves = {curve["name"] for curve in read_kept()["curves"]}
    assert {path.stem for path in PICTURES.glob("*.svg")} == curves


def test_a_curve_gives_the_same_picture_each_time(tmp_path: Path) -> None:
    curve = {
        "name": "partitions",
        "title": "Partitions",
        "x": "partitions",
        "y": "us",
        "points": [1, 64],
        "series": [{"name": "worker", "values": [4.0, 4.5]}],
    }
    draw(curve, tmp_path / "first.svg")
    draw(curve, tmp_path / "second.svg")
    first = (tmp_path / "first.svg").read_text()
    assert first == (tmp_path / "second.svg").read_text()
    assert "Partitions" in first


def kept_with(*rows: Row) -> dict[str, Any]:
    """Kept results with these rows, as they are read from the file."""
    document: dict[str, Any] = json.loads(json.dumps({"goals": [row.as_json() for row in rows]}))
    return document


CHEAP = Goal("single JSON", "ratio <= 0.55", most=0.55, is_compared=True)
SHARE = Goal("trees", "share >= 0.7", least=0.7, is_compared=True)
LATENCY = Goal("p99", "<= 20 ms", most=20.0)


@pytest.mark.parametrize(
    ("goal", "kept", "new"), [(CHEAP, 0.5, 0.57), (SHARE, 0.8, 0.71), (LATENCY, 10.0, 99.0)]
)
def test_a_figure_within_the_tolerance_or_that_is_not_compared_is_not_worse(
    goal: Goal, kept: float, new: float
) -> None:
    assert worse_than_kept([Row(goal, "", new)], kept_with(Row(goal, "", kept))) == []


@pytest.mark.parametrize(("goal", "kept", "new"), [(CHEAP, 0.5, 0.58), (SHARE, 0.8, 0.69)])
def test_a_figure_past_the_tolerance_is_named_with_both_values(
    goal: Goal, kept: float, new: float
) -> None:
    (line,) = worse_than_kept([Row(goal, "", new)], kept_with(Row(goal, "", kept)))
    assert line == f"{goal.workload}: got {new:.2f}, kept {kept:.2f}, expected at most 15% worse"


def test_a_row_that_was_not_kept_is_not_compared() -> None:
    assert worse_than_kept([Row(CHEAP, "", 9.9)], kept_with()) == []


@pytest.mark.parametrize("open_at_once", [1, 7, 40])
def test_staggered_requests_are_whole_and_so_many_are_open_in_the_middle(open_at_once: int) -> None:
    load = Load(seed=1, candidates=10)
    events = list(staggered(load, requests=100, open_at_once=open_at_once, requested_at=1))
    left = Counter({f"request-{n:06d}".encode(): 10 for n in range(100)})
    open_now: set[bytes] = set()
    most = 0
    for key, _ in events:
        open_now.add(key)
        left[key] -= 1
        if not left[key]:
            open_now.remove(key)
        most = max(most, len(open_now))
    assert not any(left.values())
    assert len({value for _, value in events}) == 1000
    assert open_at_once <= most <= open_at_once + 1


def test_a_curve_names_its_points_and_values_in_the_report() -> None:
    curve = Curve(
        "open", "Open requests", "requests", "us", (100, 100_000), (Series("w", (4.0, 4.25)),)
    )
    assert "\n".join(curve.lines()).split()[-3:] == ["w", "4.00", "4.25"]
    assert "100,000" in "\n".join(curve.lines())
