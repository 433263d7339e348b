# Everything a contributor or a newcomer types. `make help` lists it.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

PYTHON ?= $(shell python3.11 --version >/dev/null 2>&1 && echo python3.11 || echo python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check --no-input
STAMP := $(VENV)/.installed
SOURCES := refine_batch jobs tests examples benchmarks cluster .ci
# Held back when the lock is written: the version whose CPU and CUDA builds were both tested.
HOLD ?= torch==2.13.0
DEMO ?= demo
# How many share the quick tests; each takes about 2 GB. One is on Ray and waits most of the time, so that there is one
# more than the laptop has cores. The slow tests want the machine for themselves.
PROCESSES ?= 3

# The 2 cores of a laptop are the actors' to use, one thread each.
export OMP_NUM_THREADS ?= 1
# Whatever the shell says, modules stay compiled: the tests start many processes that import the same ones.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "refine-batch needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	@echo "installing the environment into $(VENV) (once; again when requirements.lock or pyproject.toml change)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) || { echo "the venv module is missing: on Debian and Ubuntu install python3-venv"; exit 1; }
	@$(PIP) install --requirement requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: install
install: $(STAMP) ## create .venv from the lock file and install the project into it

.PHONY: demo
demo: $(STAMP) ## refine a small synthetic dataset on a local Ray, print the figures and write a report
	@rm -rf $(DEMO)
	$(BIN)/refine-batch synth $(DEMO)/dataset --count 8 --seed 0
	$(BIN)/refine-batch run $(DEMO)/dataset/manifest.csv $(DEMO)/output --address local
	$(BIN)/refine-batch status $(DEMO)/output
	$(BIN)/refine-batch report $(DEMO)/output --out $(DEMO)/report.html
	@echo
	@echo "The rows and refined meshes lie in $(DEMO)/output/results; as mesh files:"
	@echo "  $(BIN)/refine-batch export $(DEMO)/output $(DEMO)/meshes --format obj"
	@echo "To look at, in any browser: $(abspath $(DEMO)/report.html)"

.PHONY: lint
lint: style ## check style and types
	$(BIN)/mypy refine_batch

.PHONY: style
style: $(STAMP)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

.PHONY: format
format: $(STAMP) ## rewrite the code in the project's style
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

# Types are checked beside the tests, which leave a core idle at times, and what was found is said after them.
.PHONY: test
test: style ## lint, and every test that is not slow (about 5 minutes on 2 cores)
	@mkdir -p build
	@$(BIN)/mypy refine_batch > build/types.txt 2>&1 & types=$$!; \
	$(BIN)/python -m pytest -m "not slow" -n $(PROCESSES) --durations=10; tests=$$?; \
	wait $$types; typed=$$?; cat build/types.txt; exit $$((tests ? tests : typed))

.PHONY: test-slow
test-slow: $(STAMP) ## the slow tests only
	$(BIN)/python -m pytest -m slow --durations=10

.PHONY: test-gpu
test-gpu: $(STAMP) ## the tests that need a GPU, on this machine's
	$(BIN)/python -m pytest -m gpu

.PHONY: test-all
test-all: test test-slow ## everything

.PHONY: lock
lock: ## resolve the newest versions that pyproject.toml allows and write them to requirements.lock
	@$(PYTHON) -m pip --quiet --quiet install --dry-run --ignore-installed --report $(or $(TMPDIR),/tmp)/refine-batch-lock.json '.[dev]' 'setuptools>=77' '$(HOLD)'
	@$(PYTHON) .ci/lock.py $(or $(TMPDIR),/tmp)/refine-batch-lock.json > requirements.lock
	@echo "requirements.lock: $$(grep -c == requirements.lock) packages; run make test-all with it before committing"

.PHONY: clean
clean: ## remove the environment, the demo and every cache
	rm -rf $(VENV) $(DEMO) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
