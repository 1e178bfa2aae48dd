"""Metrics and health of processes under test, as they are asked over HTTP."""

import urllib.request
from collections.abc import Callable
from urllib.error import HTTPError

from prometheus_client.parser import text_string_to_metric_families


def ask(port: int, path: str) -> tuple[int, str]:
    """The status and the text of an answer. Raises OSError if nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
            return reply.status, reply.read().decode()
    except HTTPError as refused:
        return refused.code, refused.read().decode()


def is_ready(port: int) -> Callable[[], bool]:
    """Whether /readyz answers 200 by now."""

    def look() -> bool:
        try:
            return ask(port, "/readyz")[0] == 200
        except OSError:
            return False

    return look


def total(port: int, name: str, **labels: str) -> float:
    """The sum of the series of a metric that have these labels."""
    values = 0.0
    for family in text_string_to_metric_families(ask(port, "/metrics")[1]):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                values += sample.value
    return values
