# Every target sets up what it needs: a virtual environment in .venv with the packages of requirements.lock.
# The local Kafka also needs Java 17 or later, and Maven the first time; `trimtab stack up` says so if they are missing.
# pip and Maven run as you have configured them: no index and no repository is named here.

PYTHON ?= python3
UV ?= uv
BIN := .venv/bin
READY := .venv/.ready
TOOLS := .venv-tools
PYTEST := $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder
COMPILE := pip compile --generate-hashes --no-emit-index-url --no-header --universal --python-version 3.11

.PHONY: help demo check test test-deploy lint models bench bench-keep bench-check trial lock proto metrics sbom audit clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' Makefile | expand -t 19

demo: $(READY) ## real posts to ranked feeds on a real Kafka, weights and a model changed meanwhile (ARGS=--outcomes: an experiment; ARGS=--keep leaves it running)
	@$(BIN)/python -m demo $(ARGS)

check: lint ## for everyday work: lint, types, import rules, and every test that needs no server
	$(PYTEST) -n 2 -m "not server" $(ARGS)

# Four processes on two cores: a test on real servers mostly waits.
test: lint ## everything: the same, and every test on a real Kafka and a real Redis
	$(PYTEST) -n 4 $(ARGS)

# Prometheus, promtool and Debian's redis-server come by apt-get into the user's cache. It fails if it cannot have them.
test-deploy: $(READY) ## alerts, dashboard and secured servers on a real Prometheus, Kafka and Redis (Debian or Ubuntu)
	$(PYTEST) -n 0 $(or $(ARGS),tests/deploy)

lint: $(READY) ## ruff, format, mypy --strict, imports only downward
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

models: $(READY) ## train both objectives again from the data in onnx_models
	$(BIN)/python onnx_models/train.py $(ARGS)

bench: $(READY) ## cost, latency and memory of a worker beside its peers, on a real Kafka (ARGS=worker: the table of goals alone)
	$(BIN)/python -m tests.bench $(ARGS)

bench-keep: $(READY) ## everything on docs/costs.md, written there with its pictures (about 25 minutes)
	$(BIN)/python -m tests.bench --keep $(ARGS)

bench-check: $(READY) ## whether a candidate costs more than the kept results say, by ratios
	$(BIN)/python -m tests.bench --check $(ARGS)

trial: $(READY) ## weights changed, models swapped, Redis, worker, join, users stage and broker killed in mid-stream: every feed and outcome judged (ARGS=kills: that alone)
	$(BIN)/python -m tests.trial $(ARGS)

proto: $(READY) ## the generated Protobuf code, from schemas/*.proto
	$(BIN)/python schemas/generate.py

metrics: $(READY) ## docs/metrics.md, from workers/metrics/names.py
	$(BIN)/python -m workers.metrics.document > docs/metrics.md

lock: ## requirements.lock and deploy/requirements.lock, from pyproject.toml (needs uv)
	@command -v $(UV) >/dev/null || { echo "$(UV): not found. Install it: pip install uv" >&2; exit 1; }
	$(UV) $(COMPILE) --all-extras pyproject.toml -o requirements.lock
	$(UV) $(COMPILE) --extra outcomes --extra otel pyproject.toml -c requirements.lock -o deploy/requirements.lock

sbom: $(TOOLS) ## dist/sbom.json: what the image installs, as a CycloneDX document
	@mkdir -p dist
	@$(TOOLS)/bin/cyclonedx-py requirements deploy/requirements.lock --pyproject pyproject.toml --output-reproducible \
	  --of JSON -o dist/sbom.json
	@echo "dist/sbom.json"

audit: $(TOOLS) ## ask the vulnerability database of PyPI about every package of requirements.lock (needs the network)
	$(TOOLS)/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.lock

# In an environment of their own: what these two need is not what the project is tested with.
$(TOOLS):
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet cyclonedx-bom==7.5.0 pip-audit==2.10.1 || { rm -rf $(TOOLS); exit 1; }

clean: ## delete the environment and every cache in this folder
	rm -rf .venv workers/codec/*.so $(TOOLS) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements.lock pyproject.toml workers/codec/wire_codec.c
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON): expected Python 3.11 or later; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "setting up .venv, this once"
	@$(PYTHON) -m venv .venv \
	  || { echo "$(PYTHON) -m venv: failed; on Debian: apt install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps -e .
	@touch $(READY)
