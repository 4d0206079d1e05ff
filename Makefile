# The whole interface for a person at a checkout: launch, test, lint.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 1

.PHONY: install launch test test-quick suite lint clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

launch: install
	$(BIN)/robustsearch launch

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-quick: lint
	$(BIN)/python -m pytest -n 2 -m 'not slow and not ray and not gpu'

test: lint suite

suite: install
	$(BIN)/python -m pytest -n 2 -m 'not ray and not gpu'
	$(BIN)/python -m pytest -m 'ray and not gpu'

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
