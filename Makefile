# `make demo` and `make test` need Python 3.11 or newer and nothing else: they build .venv themselves.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

PYTHON ?= python3.13 python3.12 python3.11 python3 python
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal

.PHONY: help venv demo test test-all test-fast test-slow test-upstream test-quant lint types format bench docs clean

help:  ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1|/' | awk -F'|' '{printf "%-12s %s\n", $$1, $$2}'

# An interpreter counts only if it runs: a name on PATH may be a shim with nothing behind it.
$(BIN)/python:
	@found=""; \
	for name in $(PYTHON); do \
	    version=$$($$name -c 'import platform; print(platform.python_version())' 2>/dev/null </dev/null) || continue; \
	    found="$${found:+$$found, }$$name $$version"; \
	    $$name -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null </dev/null || continue; \
	    echo "making $(VENV) with $$name $$version"; \
	    $$name -m venv $(VENV) && exit 0; \
	    rm -rf $(VENV); exit 1; \
	done; \
	echo "Python 3.11 or newer with its venv module is needed, but found: $${found:-none}." >&2; \
	exit 1

# Our own folder is installed in place, so only new requirements call for a new installation.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

venv: $(STAMP)  ## Make .venv and install the pinned packages

demo: $(STAMP)  ## Build the embedded corpus, train on it, translate; the model goes to runs/demo
	$(BIN)/vanilla-transformer demo

test: lint types test-fast  ## Lint, types and every test that is not slow

test-all: lint types test-fast test-slow test-upstream test-quant docs  ## The same, and all of the slow tests, test-upstream, test-quant and docs

test-fast: $(STAMP)
	$(PYTEST) -m "not slow"

test-slow: $(STAMP)
	$(PYTEST) -m slow

test-upstream: $(STAMP)  ## Run transformers' own common tests on our classes (downloads them once)
	tests=$$($(BIN)/python .ci/upstream_tests.py) && VT_UPSTREAM_TESTS="$$tests" $(PYTEST) -o verbosity_subtests=0 tests/upstream

# Apart from .venv: wherever torchao is installed, every import of a model of transformers loads it too.
.build/quant: constraints.txt | $(STAMP)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --no-deps -t $@ torchao
	@touch $@

test-quant: .build/quant  ## Test models of int8 weights, with torchao in a folder of its own
	PYTHONPATH=.build/quant OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/modeling/test_quantization.py tests/benchmarks/test_quantization.py

lint: $(STAMP)  ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## Check types across all folders
	$(BIN)/python .ci/check_types.py

format: $(STAMP)  ## Rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The quick form, minutes in all; each program says with --help what its full form takes.
bench: $(STAMP)  ## Measure speed, memory, growth and start-up against transformers' Marian, quickly
	$(BIN)/python benchmarks/import_time.py --rounds 2
	$(BIN)/python benchmarks/train_speed.py --threads 1 --rounds 3 --batches 4 --memory-rounds 1
	$(BIN)/python benchmarks/generate_speed.py --shape tiny --rounds 2
	$(BIN)/python benchmarks/tokenizer_speed.py --sentences 10000 --rounds 3
	$(BIN)/python benchmarks/jobs_speed.py --pairs 400 --lines 200 --rounds 1
	$(BIN)/python benchmarks/growth.py --quick

docs: $(STAMP)  ## Build the API reference into .build/site
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/python .ci/check_types.py --link-only
	$(BIN)/python -m mkdocs build --quiet --strict --config-file docs/mkdocs.yml

clean:  ## Remove .venv and everything that was built, but not runs/
	rm -rf $(VENV) .build build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
