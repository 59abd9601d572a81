# One menu, the same on a laptop and in CI. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The first Python that is new enough; PYTHON=/path/to/python3 chooses another.
PYTHON ?= $(shell .ci/find-python 3.11 3.12 3.13 3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

REQUESTS ?= 300
KEEP ?=
SEEDS ?= 200
SEED ?=
JOBS ?= 1
RUNBOOKS ?=
GRAFANA ?=
LOGS ?=
ENGINE ?= $(shell command -v docker || command -v podman || echo docker)
IMAGE ?= localhost/batch-job-controller:local
TESTS ?=

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

$(STAMP): requirements-dev.txt pyproject.toml
	@.ci/make-venv "$(PYTHON)" "$(VENV)"
	@touch $@

.PHONY: setup
setup: $(STAMP) ## Make the virtual environment (hash-locked)

.PHONY: demo
demo: $(STAMP) ## Run the controller on a simulated AWS: make demo [REQUESTS=300] [KEEP=1] [SEED=1]
	@$(BIN)/batch-controller demo --requests $(REQUESTS) $(if $(filter-out 0 no false,$(KEEP)),--keep) $(if $(SEED),--seed $(SEED))

.PHONY: run
run: $(STAMP) ## Run the controller: make run ARGS="--queue-url https://…"
	@$(BIN)/batch-controller run $(ARGS)

.PHONY: test
test: $(STAMP) chart-tools ## Run every test but `observability` and `image-test`; where Python 3.13 is installed, most on it too
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not observability" $(TESTS)
	@.ci/test-other-python "$(PYTHON)" 3.13

.PHONY: check
check: $(STAMP) ## Linters, types, import rules, documentation against code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m controller.docgen --check
	$(BIN)/cfn-lint --include-checks I W E -- deploy/aws/cloudformation/*.yaml
	$(BIN)/python -m deploy.grafana --check
	$(BIN)/mypy helm/generate.py
	$(BIN)/python helm/generate.py --check

.PHONY: docs
docs: $(STAMP) ## Write the generated documentation anew
	$(BIN)/python -m controller.docgen

.PHONY: chart
chart: $(STAMP) ## Write the made parts of the Helm chart anew: schema, table of values, rules and dashboards
	$(BIN)/python helm/generate.py

.PHONY: chart-tools
chart-tools: $(STAMP)
	@.ci/chart-tools $(BIN)/python .tools/chart

.PHONY: chart-test
chart-test: $(STAMP) chart-tools ## Test the Helm chart: rendered, validated, packaged, its page of commands executed
	$(BIN)/python -m pytest -rs tests/chart

.PHONY: sim
sim: $(STAMP) ## Simulate the whole application: make sim SEEDS=1000 [JOBS=2], or SEED=7 to replay one
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --jobs $(JOBS))

.PHONY: sim-profile
sim-profile: $(STAMP) ## What a simulated seed's CPU time goes to
	$(BIN)/python -m tests.simulation --profile --seeds 40

.PHONY: chaos
chaos: $(STAMP) ## The real process over the wire, with faults and SIGKILLs: make chaos [SEED=1]
	$(BIN)/python -m tests.chaos --requests 2000 --kills 50 $(if $(SEED),--seed $(SEED))

.PHONY: observability
observability: $(STAMP) ## Rules, dashboards and one alert with a real Prometheus and Alertmanager
	$(BIN)/python -m pytest tests/observability

.PHONY: dashboards
dashboards: $(STAMP) ## Write deploy/grafana/dashboards/*.json anew from the code
	$(BIN)/python -m deploy.grafana

.PHONY: dashboards-png
dashboards-png: $(STAMP) ## Draw docs/images/dashboard-*.png from a live run (needs Node.js, Chromium, pngquant)
	$(BIN)/python -m deploy.grafana.render

.PHONY: rules
rules: ## Rules and dashboards with your URLs, into build/: make rules RUNBOOKS=https://… GRAFANA=https://… LOGS=https://…
	@deploy/with-urls build/observability "$(RUNBOOKS)" "$(GRAFANA)" "$(LOGS)"

.PHONY: image
image: ## Build the container image: make image [IMAGE=name:tag] [ENGINE=docker]
	$(ENGINE) build --tag $(IMAGE) --build-arg REVISION="$$(git rev-parse HEAD)" \
	  --build-arg VERSION="$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' controller/__init__.py)" .

.PHONY: image-test
image-test: $(STAMP) ## Build, run and measure the image and the Compose file (Debian or Ubuntu, root: installs podman)
	$(BIN)/python -m pytest tests/container -rs

.PHONY: bench
bench: $(STAMP) ## Measure: costs as ratios, in one run
	$(BIN)/python -m benchmarks

.PHONY: audit
audit: ## Known vulnerabilities of the locked packages, where the database can be reached
	@.ci/audit "$(PYTHON)" requirements.txt requirements-dev.txt

.PHONY: bench-plots
bench-plots: $(STAMP) ## Compare with other clients, and depths, in simulation: tables and plots of docs/backpressure.md, docs/tracking.md
	$(BIN)/pip install -qq --disable-pip-version-check --require-hashes -r requirements-bench.txt
	$(BIN)/python -m benchmarks.peers --plots docs/images
	$(BIN)/python -m benchmarks.depth --plots docs/images --write docs/backpressure.md
	$(BIN)/python -m benchmarks.tracking --processes 2 --write docs/tracking.md --plots docs/images

.PHONY: lock
lock: ## Write requirements*.txt anew from pyproject.toml's ranges (needs uv)
	uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 --upgrade pyproject.toml -o requirements.txt
	uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 --upgrade pyproject.toml --group dev -o requirements-dev.txt
	uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 --upgrade --group audit -o requirements-audit.txt
	uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 --upgrade --group image -o requirements-image.txt
	uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 --upgrade --group image-test -o requirements-image-test.txt
	uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 --upgrade --group chart -o requirements-chart.txt
	uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 --upgrade --group bench -c requirements.txt -o requirements-bench.txt

.PHONY: clean
clean: ## Remove what the other targets made
	rm -rf .venv .venv-* .tools .demo .bench .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist build
