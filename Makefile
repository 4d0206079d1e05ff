# What a developer runs in a checkout: install, launch, lint, test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 1

# Let Python cache compiled files, and pytest its rewritten asserts, even where the environment forbids it.
unexport PYTHONDONTWRITEBYTECODE

# How many processes share the tests.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS)

# Tests on real services wait more than they compute.
INFRA_WORKERS ?= 3

# With 1, a test of infrastructure fails if something that it needs is missing; otherwise it is skipped.
export ROBUSTSEARCH_INFRA ?= $(if $(filter 0,$(shell id -u)),1,0)

.PHONY: install infra-tools launch lint test test-quick test-infra test-long suite suite-quick clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

infra-tools: $(VENV)/.infra
	.ci/infra-tools || [ "$(ROBUSTSEARCH_INFRA)" != 1 ]

$(VENV)/.infra: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[infra]'
	touch $@

launch: install
	$(BIN)/robustsearch launch

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Lint, and the tests that are quick and need no Ray: a minute and a half on two cores. Lint runs beside the tests.
test-quick: install
	$(MAKE) --no-print-directory --jobs 2 lint suite-quick

# Lint and all tests that need neither a GPU nor a network: a quarter of an hour on two cores.
test: install
	$(MAKE) --no-print-directory --jobs 2 lint suite

# Tests on real services: Slurm, sshd, object stores, Prometheus, and machines made of namespaces. They need Debian and
# root, and install what is missing; elsewhere they are skipped. Under 10 minutes on two cores.
test-infra: infra-tools
	$(BIN)/python -m pytest -n $(INFRA_WORKERS) -m 'infra and not long'

# Long versions of tests in `test`: forty kills of drivers, workers and nodes instead of four, an hour of fuzzing
# (FUZZ_SECONDS) instead of half a minute, and jobs and machines lost over and over.
test-long: infra-tools
	$(PYTEST) -m 'long and not gpu'

# The tests of `test-quick` and of `test` without lint.
suite-quick: install
	$(PYTEST) -m 'not slow and not ray and not long and not gpu and not infra'

suite: install
	$(PYTEST) -m 'not long and not gpu and not infra'

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
