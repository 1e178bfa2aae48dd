"""What is deployed beside a worker, tried with real programs: `make test-deploy`.

Rules:
- These tests are not part of `make test`: they need Debian's packages of Prometheus and Redis, and
  they take minutes. tests/conftest.py collects this folder only if it is named.
- Nothing is skipped. What cannot be installed fails.
"""
