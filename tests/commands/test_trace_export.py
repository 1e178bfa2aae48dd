"""How a worker begins to trace, and what it says if it cannot."""

import sys
from dataclasses import fields
from http import HTTPStatus
from pathlib import Path

import pytest

from tests.commands.running import trimtab
from tests.tracing.collector import running_collector
from workers.commands.trace_export import tracing, try_collector
from workers.counts import TraceCounts
from workers.settings import SETTINGS, ConfigurationError, WorkerSettings


def settings_of(**given: object) -> WorkerSettings:
    """The settings of a worker, other than the default ones."""
    names = [field.name for field in fields(WorkerSettings)]
    values = {name: SETTINGS[name].default for name in names}
    return WorkerSettings(**(values | given))  # type: ignore[arg-type]


def test_without_an_endpoint_nothing_is_traced_and_nothing_is_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "workers.tracing.export", None)
    with tracing(settings_of(trace_ratio="1"), "host-0", TraceCounts()) as tracer:
        assert tracer is None


@pytest.mark.parametrize("ratio", ["0", "0.25", "1", "1e-3"])
def test_a_tracer_has_what_the_settings_say(ratio: str) -> None:
    settings = settings_of(
        trace_endpoint="http://127.0.0.1:1", trace_ratio=ratio, group="g", topic_candidates="c"
    )
    with tracing(settings, "host-0", TraceCounts()) as tracer:
        assert tracer is not None
        assert (tracer.group, tracer.candidates, tracer.ratio) == ("g", "c", float(ratio))


def test_what_disables_opentelemetry_disables_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    settings = settings_of(trace_endpoint="http://127.0.0.1:1", trace_ratio="1")
    with tracing(settings, "host-0", TraceCounts()) as tracer:
        assert tracer is None


def test_a_variable_that_opentelemetry_does_not_take_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "100000")
    with (
        pytest.raises(ConfigurationError, match="variables: max_export_batch_size must be"),
        tracing(settings_of(trace_endpoint="http://127.0.0.1:1"), "host-0", TraceCounts()),
    ):
        pass


@pytest.mark.parametrize("ratio", ["", "1.1", "-0.1", "nan", "inf", "ten"])
def test_a_ratio_that_is_no_share_is_refused(ratio: str) -> None:
    with (
        pytest.raises(
            ConfigurationError, match=r"trace_ratio: got .*, expected a number"
        ) as refused,
        tracing(settings_of(trace_ratio=ratio), "host-0", TraceCounts()),
    ):
        pass
    assert "ten" not in str(refused.value)


@pytest.mark.parametrize(
    "endpoint",
    [
        "s3cr3t:4318",
        "ftp://s3cr3t:4318",
        "http://",
        "http:///s3cr3t",
        "http://s3cr3t:what",
        "http://s3cr3t:99999",
        "http://[s3cr3t",
        "http://me:1/s3cr3t@host:4318",
        "http://me:1?s3cr3t@host:4318",
        "http://me:1#s3cr3t@host:4318",
        "http://me:1\\s3cr3t@host:4318",
        "http://host:4318/ s3cr3t",
    ],
)
def test_an_endpoint_that_is_no_url_is_refused_and_not_shown(endpoint: str) -> None:
    with (
        pytest.raises(ConfigurationError, match=r"trace_endpoint: .* expected http") as refused,
        tracing(settings_of(trace_endpoint=endpoint), "host-0", TraceCounts()),
    ):
        pass
    assert "s3cr3t" not in str(refused.value)


def test_a_worker_without_the_extra_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = tmp_path / "opentelemetry"
    hidden.mkdir()
    (hidden / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    with (
        pytest.raises(ConfigurationError, match=r"pip install 'trimtab\[otel\]'"),
        tracing(settings_of(trace_endpoint="http://127.0.0.1:4318"), "host-0", TraceCounts()),
    ):
        pass


def test_a_collector_is_tried_without_a_span() -> None:
    with running_collector() as collector:
        endpoint = f"http://127.0.0.1:{collector.port}"
        assert try_collector(endpoint, "0") == ""
        collector.status = HTTPStatus.UNAUTHORIZED
        assert try_collector(endpoint, "0") == "HTTP 401 Unauthorized"
        assert collector.spans == []
    assert try_collector(endpoint, "0") == "Connection refused"
    assert try_collector(None, "0") is None
    with pytest.raises(ConfigurationError, match="trace_ratio"):
        try_collector(None, "2")


def test_the_options_are_those_of_a_worker() -> None:
    helped = trimtab("worker", "--help").out
    assert "--trace-endpoint URL" in helped
    assert "--trace-ratio RATIO" in helped
