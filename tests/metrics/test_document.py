"""docs/metrics.md and the names of metrics."""

import re

from tests.docs.documents import ROOT
from workers.metrics.document import document
from workers.metrics.names import METRICS, OF_PROCESS, SECTIONS, Kind


def test_the_document_is_what_make_metrics_writes() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8") == document()


def test_a_metric_is_named_once() -> None:
    rows = [metric for section in SECTIONS for metric in section.metrics]
    assert len(rows) == len(METRICS)


def test_names_follow_the_conventions_of_prometheus() -> None:
    for name, metric in METRICS.items():
        assert re.fullmatch(r"trimtab_[a-z_]+", name)
        assert name.endswith("_total") == (metric.kind is Kind.COUNTER)
        assert not re.search(r"_(ms|milliseconds|mb|kb|percent|count)(_total)?$", name)


def test_labels_are_words_and_leave_those_of_the_process_alone() -> None:
    for metric in METRICS.values():
        assert all(re.fullmatch(r"[a-z]+", label) for label in metric.labels)
        assert not set(metric.labels) & {*OF_PROCESS, "le", "job", "instance"}


def test_texts_are_one_line_for_a_table() -> None:
    for metric in METRICS.values():
        assert not set("|\n") & set(metric.help + metric.moved_by)
