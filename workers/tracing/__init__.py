"""Traces: one span for each traced request, from the first event that is taken to the commit.

`context.py` and `request_traces.py` are plain Python, and all that the loop sees. Only `export.py`
and `spans.py` import OpenTelemetry, which the extra `otel` brings. They are imported if a collector
is configured.
"""
