# Two commands do everything on a machine that has Python >= 3.11 and make:
#   make demo    a three-node cluster that loses its leader under load
#   make test    the whole test-suite
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SEED ?= 1
MINUTES ?= 10
EXAMPLES ?= 2000
DEMO_ARGS ?=
SOAK_ARGS ?=
PYTEST_ARGS ?= -n 2

.PHONY: demo test check golden sim soak canaries fuzz bench clean venv
venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/txndb demo $(DEMO_ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports --config importlinter.toml
	$(BIN)/python -m pytest -q -p no:randomly tests/tidy

golden: $(STAMP)
	TXNDB_REWRITE_GOLDEN=1 $(BIN)/python -m pytest -q -p no:randomly tests -k golden

sim: $(STAMP)
	$(BIN)/txndb sim --seed $(SEED)

soak: $(STAMP)
	$(BIN)/python -m txndb.sim.soak --minutes $(MINUTES) $(SOAK_ARGS)

canaries: $(STAMP)
	$(BIN)/python -m txndb.sim.canaries

fuzz: $(STAMP)
	TXNDB_FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -q --timeout 3600 tests/fuzz

bench: $(STAMP)
	$(BIN)/python bench/run.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build *.egg-info
