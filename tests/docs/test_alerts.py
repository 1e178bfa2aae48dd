"""The alerts, their runbook and the dashboard agree with each other and with the names of metrics.
`make test-deploy` tries them with promtool and Prometheus.
"""

import json
import re
from typing import Any

import pytest

from tests.docs.documents import ROOT
from workers.metrics.names import METRICS, Kind

ALERTS = (ROOT / "deploy" / "alerts.yaml").read_text()
SERIES = (ROOT / "deploy" / "alerts_test.yaml").read_text()
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
DASHBOARD: dict[str, Any] = json.loads(
    (ROOT / "deploy" / "grafana" / "trimtab.json").read_text(encoding="utf-8")
)
NAMES = re.findall(r"- alert: (\w+)", ALERTS)


def panels() -> list[dict[str, Any]]:
    """The panels that show something: rows only hold a title."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] not in ("row", "text")]


def exported_names() -> set[str]:
    """What Prometheus stores: three series for each histogram."""
    names: set[str] = set()
    for metric in METRICS.values():
        if metric.kind is Kind.HISTOGRAM:
            names.update(f"{metric.name}{end}" for end in ("_bucket", "_sum", "_count"))
        else:
            names.add(metric.name)
    return names


def test_each_alert_has_an_entry_in_the_runbook_in_the_same_order() -> None:
    assert NAMES
    assert re.findall(r"^### (\w+)$", RUNBOOK, re.MULTILINE) == NAMES
    linked = re.findall(r"runbook: docs/runbook.md#(\w+)", ALERTS)
    assert linked == [name.lower() for name in NAMES]


def test_each_entry_says_what_it_means_what_to_look_at_and_what_to_do() -> None:
    severities = re.findall(r"^ +severity: (\w+)$", ALERTS, re.MULTILINE)
    assert set(severities) == {"page", "ticket"}
    entries = re.split(r"^### \w+$", RUNBOOK, flags=re.MULTILINE)[1:]
    for name, severity, entry in zip(NAMES, severities, entries, strict=True):
        assert re.findall(r"^- \*\*(.*?)\*\*", entry, re.MULTILINE) == [
            "Means",
            "Look at.",
            "Do.",
        ], name
        assert f"- **Means** ({severity})." in entry, name


def test_each_alert_has_series_by_which_it_fires_and_series_by_which_it_does_not() -> None:
    cases = re.findall(r"- name: (\w+) (fires|is silent)", SERIES)
    assert cases == [(name, verb) for name in NAMES for verb in ("fires", "is silent")]


@pytest.mark.parametrize(
    "text", [ALERTS, SERIES, json.dumps(DASHBOARD)], ids=["alerts", "series", "dashboard"]
)
def test_each_metric_that_is_used_exists(text: str) -> None:
    used = set(re.findall(r"\btrimtab_\w+", text))
    assert used
    assert used <= exported_names()


def test_each_panel_says_what_it_shows_and_asks_something() -> None:
    assert panels()
    for panel in panels():
        assert panel["description"], panel["title"]
        assert [target["expr"] for target in panel["targets"]], panel["title"]


def test_the_dashboard_is_one_page_whose_panels_do_not_overlap() -> None:
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert x < 24, panel["title"]
                assert (x, y) not in taken, panel["title"]
                taken.add((x, y))


def test_the_rows_tell_the_story_from_top_to_bottom() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == [
        "Is it healthy?",
        "Is it late?",
        "Is it right?",
        "What did ops change?",
        "Where does the time go?",
        "Outcomes: what did readers do?",
    ]
