"""Metrics and health of a process, over HTTP. The only package that knows prometheus_client.

The loop makes no call into this package. It counts in plain integers (workers/counts.py), and a
thread copies them when somebody asks.
"""
