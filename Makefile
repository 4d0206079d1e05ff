# The whole interface for a person at a checkout: launch, test, lint.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 1

# Python keeps what it has compiled, rewritten asserts of the tests too, where an environment forbids it as well.
unexport PYTHONDONTWRITEBYTECODE

# How many processes share the tests.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS)

# Tests on real services wait more than they compute.
INFRA_WORKERS ?= 3

# A test of infrastructure fails where what it needs is missing if this is 1, and is skipped otherwise.
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

# Lint, and what is quick and needs no Ray: a minute and a half on two cores. Lint runs beside the tests.
test-quick: install
	$(MAKE) --no-print-directory --jobs 2 lint suite-quick

# Lint and all tests that need neither a GPU nor a network: a quarter of an hour on two cores.
test: install
	$(MAKE) --no-print-directory --jobs 2 lint suite

# Tests on real services: Slurm, sshd, stores of objects, Prometheus, and machines made of namespaces. They need Debian
# and root, who installs what is missing; elsewhere they are skipped. Under 10 minutes on two cores.
test-infra: infra-tools
	$(BIN)/python -m pytest -n $(INFRA_WORKERS) -m 'infra and not long'

# What `test` does in short, at length: forty kills of drivers, workers and nodes, where `test` has four, an hour of fuzzing
# (FUZZ_SECONDS), where `test` has half a minute, and jobs and machines that are lost, over and over.
test-long: infra-tools
	$(PYTEST) -m 'long and not gpu'

# The tests of `test-quick` and of `test` without lint.
suite-quick: install
	$(PYTEST) -m 'not slow and not ray and not long and not gpu and not infra'

suite: install
	$(PYTEST) -m 'not long and not gpu and not infra'

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
